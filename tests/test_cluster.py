"""Whether topics fit."""

from streams.cluster import Topic, fault
from streams.topics import Topics

TOPICS = Topics()
EXISTING = {name: Topic(name, 8, 1_000_000) for name in (*TOPICS.all, "mine")}


def test_topics_fit_and_a_destination_is_one_of_others() -> None:
    assert fault(TOPICS, EXISTING, ["mine"]) is None
    said = fault(TOPICS, EXISTING, ["mine", TOPICS.changelog])
    assert said is not None
    assert f"kafka://{TOPICS.changelog} is a topic of Streams itself" in said
