"""What a profile is made of."""

from benchmarks.profile import read_folded, stage, summary

LOOP = "_run_once (asyncio/base_events.py:1922)"


def test_the_innermost_frame_of_a_stage_decides():
    accept = "Processor._accept (streams/engine/processor.py:120)"

    assert stage([LOOP, accept, "read_invocation (streams/codec/envelope.py:50)", "loads (somewhere.py:3)"]) == "decode"
    assert stage([LOOP, accept]) == "processor"
    assert stage([LOOP]) == "event loop"
    assert stage(["main (elsewhere.py:1)"]) == "other"


def test_stacks_are_read_with_their_counts():
    stacks = read_folded([f"{LOOP};decide (streams/core/lifecycle.py:9) 30", f"{LOOP} 10", ""])

    assert stacks == {(LOOP, "decide (streams/core/lifecycle.py:9)"): 30, (LOOP,): 10}


def test_shares_are_given_in_microseconds_of_a_request():
    stacks = read_folded([f"{LOOP};decide (streams/core/lifecycle.py:{line}) 15" for line in (9, 11)] + [f"{LOOP} 10"])

    text = summary(stacks, cpu_us=40.0)

    lines = [line.split() for line in text.splitlines()]
    assert ["decide", "75.0", "30.0"] in lines
    assert ["event", "loop", "25.0", "10.0"] in lines
    assert ["decide", "(streams/core/lifecycle.py)", "75.0", "30.0"] in lines
