"""What plans have in common: when to strike, and whom."""

from __future__ import annotations

from random import Random


def chance(name: str, seed: int) -> Random:
    """The source of all decisions of a scenario's plan."""
    return Random(f"{name}/{seed}/plan")


def moments(random: Random, faults: int, invocations: int) -> list[int]:
    """After how many invocations each fault comes: spread over the middle of a run, none quite regularly."""
    step = invocations * 0.8 / max(1, faults)
    return [round(invocations * 0.1 + step * (number + random.random())) for number in range(faults)]


def named(count: int) -> list[str | None]:
    """Workers that keep their names across restarts."""
    return [f"worker-{number}" for number in range(count)]


def half_named(count: int) -> list[str | None]:
    """Every third one is somebody new at each start; the others keep their names."""
    return [None if number % 3 == 2 else f"worker-{number}" for number in range(count)]
