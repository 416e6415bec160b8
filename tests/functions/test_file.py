"""`streams.toml`: what it means, what is refused and how, and how functions are found."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.model import (
    Function,
    FunctionDestination,
    HttpTarget,
    KafkaDestination,
    PythonTarget,
    ServiceDestination,
)
from streams.errors import ConfigurationError
from streams.functions import Functions, load_functions
from streams.functions.catalogue import CACHE_MAX
from streams.functions.file import _Reader
from streams.providers import PROVIDERS

HANDLERS = """
async def quick(event, context): ...
def slow(event, context): ...
def one(event): ...
async def stream(event, context): yield
class Handler:
    async def __call__(self, event, context): ...
    def method(self, event, context): ...
handler = Handler()
constant = 3
"""

_numbers = itertools.count()

Load = Callable[[str], Functions]


@pytest.fixture
def module(tmp_path: Path) -> str:
    """A module of handlers beside the file, of a name that no other test imports."""
    name = f"handlers_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(HANDLERS)
    return name


@pytest.fixture
def load(tmp_path: Path, module: str) -> Iterator[Load]:
    """Loads a file with this text, in which MODULE is the module of handlers."""
    path, before = tmp_path / "streams.toml", list(sys.path)

    def load(text: str) -> Functions:
        path.write_text(text.replace("MODULE", module))
        return load_functions(path)

    yield load
    sys.path[:] = before


@pytest.fixture
def faults(load: Load) -> Callable[[str], list[str]]:
    """What is wrong with a file with this text."""

    def faults(text: str) -> list[str]:
        with pytest.raises(ConfigurationError) as caught:
            load(text)
        first, *faults = str(caught.value).splitlines()
        assert first.endswith("streams.toml cannot be used:")
        return [fault.removeprefix("- ") for fault in faults]

    return faults


def found(functions: Functions, reference: str, qualifier: str | None = None) -> Function:
    function = functions.resolve(reference, qualifier)
    assert isinstance(function, Function)
    return function


AWS = '[[function]]\nname = "resize"\nprovider = "aws"\ntarget = "MODULE:quick"\n'
FC = '[[function]]\nname = "resize"\nprovider = "fc"\nurl = "http://127.0.0.1:9000/invoke"\n'
FG = '[[function]]\nname = "resize"\nprovider = "functiongraph"\ntarget = "MODULE:slow"\n'


# -- what it means ---------------------------------------------------------------------------------------------------


def test_no_file_is_no_functions() -> None:
    functions = load_functions(None)

    assert list(functions) == []
    assert functions.time_scale == 1
    assert functions.provider("fc") is PROVIDERS["fc"]


def test_a_function_has_its_providers_defaults(load: Load, module: str) -> None:
    function = found(load(AWS), "resize")

    aws = PROVIDERS["aws"]
    assert function == Function(
        name="resize",
        qualifier="$LATEST",
        provider="aws",
        resource="arn:aws:lambda:us-east-1:123456789012:function:resize:$LATEST",
        executed_version="$LATEST",
        target=PythonTarget(module, "quick", "inline"),
        timeout_ms=60_000,
        policy=aws.policy(None, None),
    )


def test_everything_can_be_set(load: Load, module: str) -> None:
    functions = load(
        AWS
        + """
        timeout_s = 1.5
        isolation = "process"
        retries = 1
        age_max_s = 60
        reserved_concurrency = 0
        on_success = "kafka://resized"
        on_failure = "arn:aws:lambda:us-east-1:123456789012:function:repair"
        dead_letter = "kafka://dead"
        records = "failures"
        """
    )

    function = found(functions, "resize")
    assert function.timeout_ms == 1500
    assert function.target == PythonTarget(module, "quick", "process")
    assert function.policy == PROVIDERS["aws"].policy(1, 60)
    assert function.reserved_concurrency == 0
    assert function.on_success == KafkaDestination("resized")
    assert function.on_failure == FunctionDestination("arn:aws:lambda:us-east-1:123456789012:function:repair")
    assert function.dead_letter == KafkaDestination("dead")
    assert function.records == "failures"
    assert functions.kafka_topics() == {"resized", "dead"}


def test_services_outside_kafka_are_destinations_and_dead_letter_queues(load: Load) -> None:
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    functions = load(f'{AWS} on_success = "{queue}"\non_failure = "arn:aws:s3:::bucket"\ndead_letter = "{queue}"')

    function = found(functions, "resize")
    assert (function.on_success, function.dead_letter) == (ServiceDestination(queue), ServiceDestination(queue))
    assert function.on_failure == ServiceDestination("arn:aws:s3:::bucket")
    assert functions.kafka_topics() == frozenset()


def test_qualifiers_have_their_own_rules_and_share_what_is_the_functions(load: Load, module: str) -> None:
    functions = load(
        AWS
        + """
        retries = 0
        timeout_s = 5
        on_failure = "kafka://failed"
        dead_letter = "kafka://dead"
        [function.qualifiers.prod]
        version = "3"
        age_max_s = 100
        target = "MODULE:slow"
        [function.qualifiers.3]
        """
    )

    prod, three = found(functions, "resize", "prod"), found(functions, "resize", "3")
    assert (prod.executed_version, three.executed_version) == ("3", "3")
    assert prod.resource.endswith(":function:resize:prod")
    assert prod.policy == PROVIDERS["aws"].policy(None, 100)
    assert (prod.timeout_ms, prod.dead_letter, prod.on_failure) == (5000, KafkaDestination("dead"), None)
    assert prod.target == PythonTarget(module, "slow", "thread")
    assert three.target == PythonTarget(module, "quick", "inline")
    assert len(list(functions)) == 3


def test_a_provider_has_the_settings_of_its_table(load: Load) -> None:
    functions = load('[aws]\naccount = "210987654321"\nexpired_message = ""\n[fc]\nfailure_delay_ms = 7\n' + AWS + FC)

    assert found(functions, "arn:aws:lambda:us-east-1:210987654321:function:resize").name == "resize"
    [function] = [function for function in functions if function.provider == "fc"]
    assert function.policy.failure_backoff.first_ms == 7
    assert functions.provider("aws").resource("f", "1").startswith("arn:aws:lambda:us-east-1:210987654321:")


def test_the_time_scale_changes_delays_and_ages_but_no_time_limits(load: Load) -> None:
    functions = load("time_scale = 0.01\n" + AWS)

    function = found(functions, "resize")
    assert functions.time_scale == 0.01
    assert function.policy == PROVIDERS["aws"].policy(None, None).scaled(0.01)
    assert function.timeout_ms == 60_000


@pytest.mark.parametrize(
    ("url", "is_emulator"),
    [
        ("http://127.0.0.1:9000/2015-03-31/functions/function/invocations", True),
        ("https://[::1]:9000/2015-03-31/functions/resize/invocations?x=1", True),
        ("http://host/invoke", False),
        ("http://host", False),
    ],
)
def test_an_emulator_is_known_by_its_path(load: Load, url: str, is_emulator: bool) -> None:
    text = f'[[function]]\nname = "f"\nprovider = "aws"\nurl = "{url}"\n'

    assert found(load(text), "f").target == HttpTarget(url, is_emulator)
    assert found(load(text + f"runtime_api = {str(not is_emulator).lower()}"), "f").target == HttpTarget(
        url, not is_emulator
    )


@pytest.mark.parametrize(
    ("attribute", "isolation"),
    [("quick", "inline"), ("slow", "thread"), ("handler", "inline"), ("handler.method", "thread")],
)
def test_what_a_callable_is_decides_where_it_runs(load: Load, module: str, attribute: str, isolation: str) -> None:
    function = found(load(AWS.replace("quick", attribute)), "resize")

    assert function.target == PythonTarget(module, attribute, isolation)


def test_chains_are_cut_unless_that_is_allowed(load: Load) -> None:
    line = '\nrecursion = "allow"\nqualifiers.prod = {}'
    allowed, cut = (found(load(AWS + more), "resize").policy.depth_max for more in (line, ""))
    alias = load(AWS + line).resolve("resize", "prod")

    assert (cut, allowed) == (16, 1_000_000)
    assert isinstance(alias, Function)
    assert alias.policy.depth_max == 1_000_000


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("retrys = 1", "retrys: unknown key; did you mean retries?"),
        ("zzz = 1", "zzz: unknown key"),
        ("retries = 3", "retries: 3 is not a whole number from 0 to 2"),
        ("retries = true", "retries: True is not a whole number from 0 to 2"),
        ('retries = "1"', 'retries: "1" is not a whole number from 0 to 2'),
        ("age_max_s = 59", "age_max_s: 59 is not a whole number from 60 to 21600"),
        ("reserved_concurrency = -1", "reserved_concurrency: -1 is not a whole number of at least 0"),
        ("timeout_s = 0", "timeout_s: 0 is not a number above 0"),
        ("timeout_s = inf", "timeout_s: inf is not a number above 0"),
        ("timeout_s = nan", "timeout_s: nan is not a number above 0"),
        ('isolation = "fork"', 'isolation: "fork" is not "inline" or "thread" or "process"'),
        ('isolation = "thread"', "isolation: quick is an async def function, which runs inline or in a process"),
        ('records = "some"', 'records: "some" is not "all" or "failures" or "none"'),
        ('recursion = "maybe"', 'recursion: "maybe" is not "terminate" or "allow"'),
        ('url = "http://host/"', "url: there is a target, too; a function has one of them"),
        ("runtime_api = true", "runtime_api: belongs to a url"),
        ('on_success = ""', 'on_success: "" is not a text'),
        (
            'on_success = "arn:aws:s3:::bucket"',
            'on_success: "arn:aws:s3:::bucket" is not kafka://topic, the ARN or URN of a function of aws or a service '
            "that aws sends records of successes to",
        ),
        (
            'on_failure = "acs:mns:::/queues/q/messages"',
            'on_failure: "acs:mns:::/queues/q/messages" is not kafka://topic, the ARN or URN of a function of aws or a '
            "service that aws sends records of failures to",
        ),
        (
            'dead_letter = "arn:aws:sqs:us-east-1:123456789012:q.fifo"',
            'dead_letter: "arn:aws:sqs:us-east-1:123456789012:q.fifo" is not kafka://topic or a service that aws sends '
            "dead letters to",
        ),
        ('dead_letter = "kafka://.."', 'dead_letter: "kafka://.." is not kafka://topic or a service that aws sends '
         "dead letters to"),
        ("qualifiers = 1", "qualifiers: is not a table"),
        ("qualifiers.prod = 1", "qualifiers.prod: is not a table"),
        ("qualifiers.prod.timeout_s = 1", "qualifiers.prod.timeout_s: unknown key"),
        ("qualifiers.prod.retries = 9", "qualifiers.prod.retries: 9 is not a whole number from 0 to 2"),
        ('qualifiers."$LATEST".retries = 1', "qualifiers.$LATEST: these are the settings of the function itself"),
        ('qualifiers."not one".retries = 1', "qualifiers.not one: is no version or alias of aws"),
    ],
)  # fmt: skip
def test_a_fault_names_function_and_key(faults: Callable[[str], list[str]], line: str, fault: str) -> None:
    assert faults(AWS + line) == [f'function "resize", {fault}']


@pytest.mark.parametrize(
    ("attribute", "fault"),
    [
        ("quik", "MODULE has no quik; did you mean quick?"),
        ("constant", "constant is not a function"),
        ("Handler", "Handler is not a function"),
        ("stream", "stream is a generator"),
        ("one", "one(event) cannot be called with (event, context)"),
        ("handler.absent", "MODULE has no absent"),
    ],
)
def test_a_target_must_be_a_handler(
    faults: Callable[[str], list[str]], module: str, attribute: str, fault: str
) -> None:
    [found] = faults(AWS.replace("quick", attribute))

    assert found == f'function "resize", target: {fault.replace("MODULE", module)}'


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1\ndef broken(:\n", "line 2: invalid syntax"),
        ("import no_such_module_anywhere", "line 1: ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("def f():\n    return 1 / 0\nf()", "line 2: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        ("raise AttributeError('inside')", "line 1: AttributeError: inside"),
    ],
)
def test_a_module_that_cannot_be_imported_says_where(
    faults: Callable[[str], list[str]], tmp_path: Path, source: str, fault: str
) -> None:
    name = f"broken_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(source)

    [found] = faults(AWS.replace("MODULE:quick", f"{name}:handler"))

    assert found == f'function "resize", target: importing {name}: {tmp_path / name}.py, {fault}'


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("handlers.resize", '"handlers.resize" is not module:function; did you mean handlers:resize?'),
        ("resize", '"resize" is not module:function'),
        ("no_such_module:f", "there is no module no_such_module beside the file or on Python's path"),
    ],
)
def test_a_target_must_be_found(faults: Callable[[str], list[str]], target: str, fault: str) -> None:
    assert faults(AWS.replace("MODULE:quick", target)) == [f'function "resize", target: {fault}']


def test_a_blocking_function_must_not_run_on_the_loop(faults: Callable[[str], list[str]]) -> None:
    assert faults(FG + 'isolation = "inline"') == [
        'function "resize", isolation: slow is not an async def function; it runs in a thread or a process'
    ]


@pytest.mark.parametrize("url", ["host/path", "ftp://host/", "http:///path", "http://host:99999/", "http://[::1/", ""])
def test_a_url_must_be_one(faults: Callable[[str], list[str]], url: str) -> None:
    [fault] = faults(FC.replace("http://127.0.0.1:9000/invoke", url))

    assert fault.startswith(f'function "resize", url: "{url}" is not')


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[[function]]\nprovider = "aws"\nurl = "http://h/"', "function number 1, name: is missing"),
        ('[[function]]\nname = "f"\nurl = "http://h/"', 'function "f", provider: is missing'),
        (
            '[[function]]\nname = "f"\nprovider = "azure"\nurl = "http://h/"',
            'function "f", provider: "azure" is not "aws" or "fc" or "functiongraph"',
        ),
        ('[[function]]\nname = "f"\nprovider = "aws"', 'function "f", target: neither target nor url is there'),
        (
            '[[function]]\nname = "a b"\nprovider = "aws"\nurl = "http://h/"',
            'function "a b", name: "a b" is no name of a function of aws',
        ),
        (AWS + AWS, 'function "resize": aws has it twice'),
        ('[function]\nname = "f"', "function: each function is a table that begins with [[function]]"),
        ("functions = []", "functions: unknown key; did you mean function?"),
        ("time_scale = 0", "time_scale: 0 is not a number above 0"),
        ("aws = 3", "aws: is not a table"),
        ("[aws]\nacount = 'x'", "[aws] acount: unknown key; did you mean account?"),
        ("[aws]\naccount = 1", "[aws] account: 1 is not a text"),
        ("[fc]\nfailure_delay_ms = -1", "[fc] failure_delay_ms: -1 is not a whole number of at least 0"),
        ("[fc]\nbinary_payload = 'hex'", '[fc] binary_payload: "hex" is not "base64" or "latin-1"'),
        ("[functiongraph]\nindented_errors = 1", "[functiongraph] indented_errors: 1 is not true or false"),
        ("[functiongraph]\ninvoke_count_base = true", "[functiongraph] invoke_count_base: True is not 0 or 1"),
    ],
)
def test_other_faults(faults: Callable[[str], list[str]], text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_a_provider_may_refuse_its_settings(faults: Callable[[str], list[str]]) -> None:
    [fault] = faults('[functiongraph]\nutc_offset = "noon"')

    assert fault.startswith("[functiongraph] utc_offset: ")


def test_all_faults_are_told_at_once(faults: Callable[[str], list[str]]) -> None:
    assert len(faults("time_scale = -1\n" + AWS + "retries = 9\ntimeout = 1\n" + FC + "records = 1\n")) == 4


@pytest.mark.parametrize("content", [b"x = ", b"\xff\xfe", b"x = 1\nx = 2"])
def test_what_is_not_toml_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "streams.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"streams\.toml is not a TOML file: "):
        load_functions(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml cannot be read: No such file"):
        load_functions(tmp_path / "absent.toml")


_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(
    ["aws", "fc", "functiongraph", "kafka://t", "http://h/", "json:dumps", "", "a:b", "$LATEST", "process", "\ud800"]
) | st.text("ab:./-$é", max_size=5)  # fmt: skip
_keys = st.sampled_from([
    "name", "provider", "target", "url", "runtime_api", "timeout_s", "isolation", "retries", "age_max_s", "version",
    "reserved_concurrency", "on_success", "on_failure", "dead_letter", "records", "qualifiers", "account", "region",
    "recursion",
]) | st.text("ab.$", max_size=3)  # fmt: skip
_flat = st.dictionaries(_keys, _scalars, max_size=4)
_values = _scalars | st.lists(_scalars, max_size=2) | _flat | st.dictionaries(_keys, _flat, max_size=2)
_documents = st.dictionaries(
    st.sampled_from(["time_scale", "function", "aws", "fc", "functiongraph", "other"]),
    _values | st.lists(st.dictionaries(_keys, _values, max_size=8), max_size=2),
)


@given(_documents)
@settings(max_examples=40, deadline=None)
def test_no_content_of_a_file_is_a_surprise(document: dict[str, Any]) -> None:
    reader = _Reader()

    functions = reader.functions(document)

    assert reader.faults or all(
        isinstance(functions.resolve(function.resource, function.qualifier), Function) for function in functions
    )


# -- how functions are found -----------------------------------------------------------------------------------------

VERSIONED = AWS + "[function.qualifiers.prod]\n"


@pytest.mark.parametrize(
    ("reference", "qualifier", "expected"),
    [
        ("resize", None, "$LATEST"),
        ("resize", "$LATEST", "$LATEST"),
        ("resize", "prod", "prod"),
        ("resize:prod", None, "prod"),
        ("resize:prod", "prod", "prod"),
        ("123456789012:function:resize", "prod", "prod"),
        ("arn:aws:lambda:us-east-1:123456789012:function:resize", None, "$LATEST"),
        ("arn:aws:lambda:us-east-1:123456789012:function:resize:prod", None, "prod"),
    ],
)
def test_a_function_is_found(load: Load, reference: str, qualifier: str | None, expected: str) -> None:
    functions = load(VERSIONED)

    for _ in range(2):  # the second answer is a remembered one
        assert found(functions, reference, qualifier).qualifier == expected


@pytest.mark.parametrize(
    ("reference", "qualifier", "reason"),
    [
        ("shrink", None, "No function has this name."),
        ("", None, "No function has this name."),
        ("resize", "test", "The function has no such version or alias."),
        ("resize:test", None, "The function has no such version or alias."),
        ("resize:prod", "$LATEST", "The qualifier in the function's name is not the specified qualifier."),
        ("arn:aws:lambda:eu-west-1:123456789012:function:resize", None, "No function has this name."),
        ("acs:fc:::functions/resize", None, "No function has this name."),
    ],
)
def test_a_function_that_is_not_found_has_a_reason(
    load: Load, reference: str, qualifier: str | None, reason: str
) -> None:
    assert load(VERSIONED).resolve(reference, qualifier) == reason


def test_a_name_that_two_providers_have_needs_an_arn(load: Load) -> None:
    functions = load(AWS + FC + FG)

    assert functions.resolve("resize", None) == (
        "Functions of aws and fc and functiongraph have this name: only an ARN or URN tells which one is meant."
    )
    for function in functions:
        assert found(functions, function.resource) is function


def test_references_from_outside_do_not_fill_the_memory(load: Load) -> None:
    functions = load(AWS)
    for number in range(CACHE_MAX + 10):
        functions.resolve(f"unknown-{number}", None)

    assert len(functions._resolved) <= CACHE_MAX
    assert found(functions, "resize").name == "resize"


def test_of_a_function_that_is_gone_address_and_default_rules_are_left(load: Load) -> None:
    functions = load("time_scale = 0.5\n" + AWS)

    gone = functions.gone("arn:aws:lambda:us-east-1:123456789012:function:shrink:prod", None)

    assert gone is not None
    assert (gone.name, gone.qualifier, gone.provider) == ("shrink", "prod", "aws")
    assert gone.resource == "arn:aws:lambda:us-east-1:123456789012:function:shrink:prod"
    assert gone.policy == PROVIDERS["aws"].policy(None, None).scaled(0.5)
    assert functions.gone("shrink", None) is None  # whose was it?


def test_a_function_of_functiongraph_with_only_a_destination_is_configured_and_retries_once(load: Load) -> None:
    text = '[[function]]\nname = "f"\nprovider = "functiongraph"\ntarget = "MODULE:quick"\n'

    bare = load(text).resolve("f", None)
    destined = load(text + 'on_failure = "kafka://failed"\n').resolve("f", None)

    assert isinstance(bare, Function) and isinstance(destined, Function)
    assert (bare.policy.attempts_max, destined.policy.attempts_max) == (1, 2)
