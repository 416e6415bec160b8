"""Streams: asynchronous function invocation on Apache Kafka."""

from importlib.metadata import version

__version__ = version("invocation-streams")
