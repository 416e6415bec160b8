"""What can stop Streams, as exceptions whose messages say what to do next.

An invocation that fails is not among them: that is an Outcome, a value.
"""

from typing import ClassVar


class StreamsError(Exception):
    """Something the person at the keyboard can put right; the message says how."""

    exit_code: ClassVar[int] = 1
    """What the process exits with when this error ends it."""


class ConfigurationError(StreamsError):
    """A setting, an option or a file is wrong, or a part of the installation is missing."""

    exit_code: ClassVar[int] = 2


class BrokerError(StreamsError):
    """Kafka cannot be started, reached or used."""

    exit_code: ClassVar[int] = 3


class ReadModelError(StreamsError):
    """The read model cannot be reached or used."""

    exit_code: ClassVar[int] = 4
