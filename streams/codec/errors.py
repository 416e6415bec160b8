"""What can be wrong with bytes that came from outside. Messages never contain an event."""

from __future__ import annotations

from typing import Literal, TypeAlias

from streams.errors import StreamsError

Reason: TypeAlias = Literal["NullInput", "OversizedInput", "UndecodableInput", "UnknownFunction", "StateMissing"]
"""The dead letter's reason for an input that is not an invocation we can run."""


class InputRejected(StreamsError):
    """A record from which no invocation can be read; *message* says what is wrong and how to put it right."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message


class AvroError(StreamsError):
    """Bytes that are not the Avro they should be, or a schema we cannot read."""


class SchemaNeeded(AvroError):
    """The writer's schema must be fetched from the registry (`Registry.schema`); then decode again."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"Schema {schema_id} has not been fetched from the schema registry yet.")
        self.schema_id = schema_id
