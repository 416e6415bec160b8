"""Whether topics fit."""

from collections.abc import Mapping

from streams.cluster import Topic, fault, wanted
from streams.topics import Topics

TOPICS = Topics()
EXISTING = {name: Topic(name, 8, int(config["max.message.bytes"])) for name, config in wanted(TOPICS, ["mine"]).items()}


def _fault(*destinations: str, **sizes: int | None) -> str:
    """What is wrong when some topics take records of other *sizes*."""
    resized = {name: Topic(name, 8, size) for name, size in sizes.items()}
    return fault(TOPICS, {**EXISTING, **resized}, destinations) or ""


def test_the_topics_that_we_make_fit() -> None:
    assert not _fault("mine")


def test_a_destination_is_a_topic_of_others() -> None:
    assert f"kafka://{TOPICS.changelog} is a topic of Streams itself" in _fault("mine", TOPICS.changelog)
    assert "kafka://__consumer_offsets is a topic of Kafka itself" in _fault("__consumer_offsets")


def test_what_can_be_invoked_must_fit_where_it_waits_and_where_it_ends() -> None:
    """Topics made by hand take 1,048,588 bytes: an event of that size could not be retried."""
    by_hand: Mapping[str, int | None] = dict.fromkeys(TOPICS.all, 1_048_588)
    assert TOPICS.tiers[0] in (said := _fault(**by_hand))
    assert "max.message.bytes" in said
    assert not _fault(**by_hand | {TOPICS.invocations: 500_000, TOPICS.deliveries: 500_000, TOPICS.dlq: 2_000_000})
    assert TOPICS.dlq in _fault(**by_hand | {TOPICS.invocations: 500_000, TOPICS.deliveries: 500_000})
    assert not _fault(**dict.fromkeys(TOPICS.all)), "a cluster that does not tell us is believed"


def test_our_own_settings_win_over_a_destinations() -> None:
    assert wanted(TOPICS, [TOPICS.changelog]) == wanted(TOPICS)
