from __future__ import annotations

import copy
import pickle
from dataclasses import replace

from streams.core.facts import Accepted
from streams.core.model import Outcome

OUTCOME = Outcome("returned", 200, b"{}")


def test_values_of_equal_fields_are_equal_and_hash_alike() -> None:
    assert Outcome("returned", 200, b"{}") == OUTCOME
    assert len({OUTCOME, Outcome("returned", 200, b"{}"), Outcome("returned", 200, b"[]")}) == 2


def test_a_value_is_not_equal_to_a_value_of_another_kind_with_the_same_fields() -> None:
    assert Accepted(1, 2, 3, 4) != (1, 2, 3, 4)


def test_a_value_is_replaced_matched_copied_and_pickled_like_a_dataclass() -> None:
    assert replace(OUTCOME, status_code=201) == Outcome("returned", 201, b"{}")
    assert copy.copy(OUTCOME) == pickle.loads(pickle.dumps(OUTCOME)) == OUTCOME
    match Accepted(1, 2, 3, 4):
        case Accepted(at_ms, _, due_at_ms):
            assert (at_ms, due_at_ms) == (1, 3)


def test_a_value_has_its_fields_and_nothing_else() -> None:
    assert not hasattr(OUTCOME, "__dict__")
    assert repr(Accepted(1, 2, 3, 4)) == "Accepted(at_ms=1, accepted_at_ms=2, due_at_ms=3, depth=4)"
