"""Imports point inwards: edges -> engine -> codec, providers -> core. Decide inside, act outside."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

STREAMS = Path(__file__).parents[1] / "streams"
MODULES = sorted(STREAMS.rglob("*.py"))

EDGES = {"gateway", "console", "commands", "cli", "local", "app", "__main__"}
"""What people and other programs talk to, and what puts everything together."""

FORBIDDEN: dict[str, set[str]] = {
    "codec": {*EDGES, "engine", "invokers", "destinations"},
    "invokers": {*EDGES, "engine", "destinations"},
    "destinations": {*EDGES, "engine"},
    "engine": EDGES,
}
"""What a part of `streams` may not import from `streams`. `core` and `providers` have stricter tests of their own."""

OUTSIDE_WORLD = {"aiokafka", "faust", "asyncio", "time", "socket"}
"""Kafka, event loops, clocks and wires: pure parts know none of them."""


def imports(module: Path) -> Iterator[str]:
    """Full names of all that *module* imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where an import points"
            # `from streams import engine` imports a part too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(name: str) -> str:
    """The part of `streams` that an import points at: ``core`` for ``streams.core.model.Ended``."""
    return name.split(".")[1]


def modules_of(folder: str) -> list[Path]:
    return [module for module in MODULES if module.relative_to(STREAMS).parts[0] in (folder, f"{folder}.py")]


def imported_parts(folder: str) -> set[str]:
    return {part(name) for module in modules_of(folder) for name in imports(module) if name.startswith("streams.")}


def imported_packages(folder: str) -> set[str]:
    """Top-level packages other than the standard library's and our own."""
    tops = {name.split(".")[0] for module in modules_of(folder) for name in imports(module)}
    return tops - set(sys.stdlib_module_names) - {"streams"}


def test_core_knows_only_itself_and_the_standard_library() -> None:
    assert imported_parts("core") <= {"core"}
    assert imported_packages("core") == set()


def test_providers_know_only_core_and_orjson() -> None:
    assert imported_parts("providers") <= {"core", "providers"}
    assert imported_packages("providers") <= {"orjson"}


@pytest.mark.parametrize("folder", ["core", "providers", "codec"])
def test_pure_parts_know_no_kafka_no_loop_no_clock_and_no_wire(folder: str) -> None:
    tops = {name.split(".")[0] for module in modules_of(folder) for name in imports(module)}

    assert tops.isdisjoint(OUTSIDE_WORLD)


@pytest.mark.parametrize("folder", ["core", "providers"])
def test_pure_parts_never_ask_for_the_time(folder: str) -> None:
    for module in modules_of(folder):
        asked = {node.attr for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)}

        assert asked.isdisjoint({"now", "utcnow", "today"}), module


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_point_inwards(folder: str) -> None:
    assert imported_parts(folder).isdisjoint(FORBIDDEN[folder])


def test_the_modules_are_found() -> None:
    assert {"core", "providers"} <= imported_parts("engine") | imported_parts("providers")
    assert modules_of("core")


def test_what_the_read_model_shows_is_decided_without_a_database_or_a_clock() -> None:
    tops = {name.split(".")[0] for name in imports(STREAMS / "console" / "projection.py")}

    assert tops <= set(sys.stdlib_module_names) | {"streams"}
    assert tops.isdisjoint(OUTSIDE_WORLD)
