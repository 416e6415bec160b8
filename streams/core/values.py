"""Values that may not be changed, at the price of those that may.

A frozen dataclass sets every field through `object.__setattr__`: eight fields take 3.5 us to build, without `frozen`
0.7 us, and a request builds a dozen values. So nothing forbids a change at run time; mypy does, and the project is
checked by it. For values of the hot path; elsewhere `@dataclass(frozen=True, slots=True)` says it with the standard
library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make *cls* a dataclass with slots, compared and hashed by its fields, which are read-only to a type checker."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
