"""A trial of hours is judged piece by piece, every invocation once."""

from types import SimpleNamespace
from typing import Any

from streams.doctor.load import Sent
from streams.doctor.trial import Trial


class Evidence:
    """Gives out what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []

    async def collect(self) -> None:
        """There is always everything."""

    def case(self, sent: dict[str, Sent], kills: int, samples: object) -> set[str]:
        self.asked.append(set(sent))
        return set(sent)


async def test_what_ended_is_judged_once_and_one_judgement_later() -> None:
    evidence: Any = Evidence()
    load: Any = SimpleNamespace(acknowledged={})
    watch: Any = SimpleNamespace(ended=set())
    crew: Any = SimpleNamespace(exits=[], slots=[])
    nothing: Any = None
    trial = Trial(nothing, nothing, nothing, crew, load, watch, evidence)
    trial.figures = SimpleNamespace(add=lambda case: None)  # type: ignore[assignment]

    for number in range(4):
        load.acknowledged[f"id-{number}"] = Sent("success", "aws", None, None)
        watch.ended.add(f"id-{number}")
        await trial.judge_ended()
    await trial.judge()

    assert evidence.asked == [set(), {"id-0"}, {"id-1"}, {"id-2"}, {"id-3"}]
    assert (load.acknowledged, watch.ended) == ({}, set())
