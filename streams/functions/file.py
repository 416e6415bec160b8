"""What `streams.toml` says, checked in full before anything runs.

What a function runs and where, its time limit, concurrency, dead-letter topic and records belong to the function and
hold for all of its versions and aliases; a qualifier may have a target of its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
import re
import sys
import tomllib
import traceback
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from streams.core.model import (
    Destination,
    DestinationSetting,
    Function,
    FunctionDestination,
    HttpTarget,
    KafkaDestination,
    PythonTarget,
    ServiceDestination,
)
from streams.errors import ConfigurationError
from streams.functions.catalogue import TIMEOUT_S, Functions
from streams.invokers.python import NotAHandler, is_async, load_handler
from streams.providers import PROVIDERS
from streams.providers.base import Provider

log = logging.getLogger(__name__)


def load_functions(path: Path | None) -> Functions:
    """The functions of `streams.toml` at *path* alone; None gives no functions. Raises `ConfigurationError`."""
    return read_functions(read_document(path), path)


def read_document(path: Path | None) -> dict[str, Any]:
    """The tables of `streams.toml` at *path*, not checked yet; its folder becomes the first on `sys.path`.

    Raises `ConfigurationError` when it is no TOML file.
    """
    if path is None:
        return {}
    folder = str(path.resolve().parent)
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    return _document(path)


def read_functions(document: Mapping[str, Any], path: Path | None) -> Functions:
    """The functions in *document*, which was read from *path*; every Python target is imported.

    Raises `ConfigurationError` naming all that is wrong: file, function and key.
    """
    if path is None:
        return Functions()
    reader = _Reader()
    functions = reader.functions(document)
    if reader.faults:
        raise ConfigurationError("\n".join((f"{path} cannot be used:", *(f"- {fault}" for fault in reader.faults))))
    return functions


def read_stored(table: Mapping[str, Any], functions: Functions) -> tuple[list[Function], list[str]]:
    """All qualifiers of the function in *table*, and what is wrong with it: then they are of no use.

    *table* was stored by an API (`stored`), with the settings of *functions* around it. Unlike in a file, destinations
    may be services that nothing here delivers to (RocketMQ), and a target need not be there: it is an error of each
    attempt then.
    """
    reader = _Reader(functions, lenient=True)
    return list(reader.function(table, "")), reader.faults


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error


# -- tables ----------------------------------------------------------------------------------------------------------

_QUALIFIER_KEYS = ("target", "url", "runtime_api", "retries", "age_max_s", "on_success", "on_failure")
_SHARED_KEYS = ("timeout_s", "isolation", "reserved_concurrency", "dead_letter", "records", "recursion")
_FUNCTION_KEYS = ("name", "provider", *_QUALIFIER_KEYS, *_SHARED_KEYS, "qualifiers")

LINKS_MAX = 1_000_000
"""Of a chain of functions that is not cut because of its length; longer ones are no invocations of ours."""

_EMULATOR_PATH = re.compile(r"/2015-03-31/functions/[^/]+/invocations")
_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_PYTHON_TARGET = re.compile(rf"({_DOTTED}):({_DOTTED})")


class _Table:
    """One table of the file. Every key is taken once; what is wrong with it goes to *faults*."""

    def __init__(self, content: Mapping[str, Any], where: str, faults: list[str], lenient: bool = False) -> None:
        self.content = content
        self.where = where
        self.lenient = lenient
        self._faults = faults

    def fault(self, key: str, text: str) -> None:
        """*key* of this table is wrong."""
        self._faults.append(f"{self.where}{key}: {text}")

    def only(self, known: Collection[str]) -> None:
        """Complain of keys that are not among *known*."""
        for key in self.content:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                self.fault(key, "unknown key" + "".join(f"; did you mean {found}?" for found in near))

    def text(self, key: str, choices: Collection[str] = ()) -> str | None:
        """A string, one of *choices* if there are any. None when absent or wrong."""
        value = self.content.get(key)
        if value is None or (isinstance(value, str) and (value in choices or not choices) and value):
            return value
        self.fault(key, f"{_shown(value)} is not {_either(choices) if choices else 'a text'}")
        return None

    def flag(self, key: str) -> bool | None:
        """True or false. None when absent or wrong."""
        value = self.content.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.fault(key, f"{_shown(value)} is not true or false")
        return None

    def number(self, key: str) -> float | None:
        """A number above 0 (and, lest it overflow, below a billion). None when absent or wrong."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9:
            return float(value)
        self.fault(key, f"{_shown(value)} is not a number above 0")
        return None

    def integer(self, key: str, minimum: int = 0, maximum: int | None = None) -> int | None:
        """A whole number within bounds. None when absent or wrong."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= (maximum or math.inf):
            return value
        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        self.fault(key, f"{_shown(value)} is not a whole number {bounds}")
        return None

    def table(self, key: str) -> Mapping[str, Any]:
        """A table below this one; an empty one when absent or wrong."""
        value = self.content.get(key, {})
        if isinstance(value, dict):
            return value
        self.fault(key, "is not a table")
        return {}


class _Reader:
    """Turns the file into `Functions`, and remembers all that is wrong with it."""

    def __init__(self, around: Functions | None = None, lenient: bool = False) -> None:
        self.faults: list[str] = []
        self._providers = {name: around.provider(name) for name in PROVIDERS} if around is not None else {}
        self._time_scale = around.time_scale if around is not None else 1.0
        self._lenient = lenient
        self._loops_allowed = False
        """Whether the function that is being read may be part of an endless chain."""

    def functions(self, document: Mapping[str, Any]) -> Functions:
        """The functions in *document*; of use only if there are no faults."""
        top = _Table(document, "", self.faults)
        top.only(("time_scale", "function", *PROVIDERS))
        self._time_scale = top.number("time_scale") or 1.0
        for name, provider in PROVIDERS.items():
            self._providers[name] = self._configured(provider, _Table(top.table(name), f"[{name}] ", self.faults))
        return Functions(self._all(top), self._providers, self._time_scale)

    def _configured(self, provider: Provider, table: _Table) -> Provider:
        """*provider* with the settings of its table."""
        assert dataclasses.is_dataclass(provider) and not isinstance(provider, type)
        types = typing.get_type_hints(type(provider))
        settings = {field.name: types[field.name] for field in dataclasses.fields(provider)}
        table.only(settings)
        given = {}
        for key in table.content:
            value = _setting(table, key, settings[key]) if key in settings else None
            if value is not None:
                given[key] = value
        try:
            return dataclasses.replace(provider, **given)
        except ValueError as error:
            table.fault(" or ".join(given), str(error))
            return provider

    def _all(self, top: _Table) -> Iterator[Function]:
        entries = top.content.get("function", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            top.fault("function", "each function is a table that begins with [[function]]")
            return
        seen = set()
        for number, entry in enumerate(entries, 1):
            label = f'function "{entry["name"]}"' if isinstance(entry.get("name"), str) else f"function number {number}"
            yield from self.function(entry, f"{label}, ")
            key = (str(entry.get("provider")), str(entry.get("name")))
            if key in seen:
                self.faults.append(f"{label}: {key[0]} has it twice")
            seen.add(key)

    def function(self, entry: Mapping[str, Any], where: str) -> Iterator[Function]:
        """All qualifiers of one function."""
        table = _Table(entry, where, self.faults, self._lenient)
        table.only(_FUNCTION_KEYS)
        name, provider_name = table.text("name"), table.text("provider", PROVIDERS)
        for key, value in (("name", name), ("provider", provider_name)):
            if value is None and key not in table.content:
                table.fault(key, "is missing")
        if name is None or provider_name is None:
            return
        provider = self._providers[provider_name]
        parsed = provider.parse_reference(name)
        if parsed is None or parsed.name != name:
            table.fault("name", f"{_shown(name)} is no name of a function of {provider_name}")
        shared = {
            "name": name,
            "provider": provider_name,
            "timeout_ms": max(1, round((table.number("timeout_s") or TIMEOUT_S) * 1000)),
            "reserved_concurrency": table.integer("reserved_concurrency"),
            "dead_letter": _dead_letter(table, provider),
            "records": table.text("records", ("all", "failures", "none")) or "all",
        }
        self._loops_allowed = table.text("recursion", ("terminate", "allow")) == "allow"
        isolation = table.text("isolation", ("inline", "thread", "process"))
        if isolation is not None and "url" in table.content:
            table.fault("isolation", "belongs to a target")
        target = _target(table, isolation)
        if target is None and "target" not in table.content and "url" not in table.content:
            table.fault("target", "neither target nor url is there")
        yield self._version(table, provider, provider.latest, provider.latest, target, shared)
        for qualifier in table.table("qualifiers"):
            yield self._qualifier(table, provider, qualifier, target, isolation, shared)

    def _qualifier(
        self,
        table: _Table,
        provider: Provider,
        qualifier: str,
        target: PythonTarget | HttpTarget | None,
        isolation: str | None,
        shared: dict[str, Any],
    ) -> Function:
        """An alias or version of the function in *table*, which runs *target*."""
        parsed = provider.parse_reference(f"{shared['name']}:{qualifier}")
        if qualifier == provider.latest:
            table.fault(f"qualifiers.{qualifier}", "these are the settings of the function itself")
        elif parsed is None or parsed.qualifier != qualifier:
            table.fault(f"qualifiers.{qualifier}", f"is no version or alias of {provider.name}")
        qualifiers = _Table(table.table("qualifiers"), f"{table.where}qualifiers.", self.faults)
        where = f"{table.where}qualifiers.{qualifier}."
        own = _Table(qualifiers.table(qualifier), where, self.faults, self._lenient)
        own.only((*_QUALIFIER_KEYS, "version"))
        version = own.text("version") or qualifier
        return self._version(own, provider, qualifier, version, _target(own, isolation) or target, shared)

    def _version(
        self,
        table: _Table,
        provider: Provider,
        qualifier: str,
        version: str,
        target: PythonTarget | HttpTarget | None,
        shared: dict[str, Any],
    ) -> Function:
        """One qualifier of a function."""
        retries = table.integer("retries", provider.retries.minimum, provider.retries.maximum)
        age_max_s = table.integer("age_max_s", provider.age_s.minimum, provider.age_s.maximum)
        on_success = _destination(table, "on_success", provider)
        on_failure = _destination(table, "on_failure", provider)
        if retries is None and (on_success or on_failure):
            retries = provider.retries.default  # FunctionGraph retries only what is configured
        policy = provider.policy(retries, age_max_s).scaled(self._time_scale)
        if self._loops_allowed:
            policy = dataclasses.replace(policy, depth_max=LINKS_MAX)
        return Function(
            qualifier=qualifier,
            resource=provider.resource(shared["name"], qualifier),
            executed_version=version,
            target=target or PythonTarget("", "", "inline"),  # a fault has been noted
            policy=policy,
            on_success=on_success,
            on_failure=on_failure,
            **shared,
        )


def _setting(table: _Table, key: str, kind: Any) -> object:
    """The value of a provider's setting of type *kind*; None when wrong. Unlike other texts it may be empty."""
    if kind is str and table.content[key] == "":
        return ""
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        value = table.content[key]
        if any(value == choice and type(value) is type(choice) for choice in choices):
            return typing.cast(object, value)
        table.fault(key, f"{_shown(value)} is not {_either(choices)}")
        return None
    read: dict[Any, Any] = {str: table.text, int: table.integer, bool: table.flag, float: table.number}
    return typing.cast(object, read[kind](key))


# -- targets ---------------------------------------------------------------------------------------------------------


def _target(table: _Table, isolation: str | None) -> PythonTarget | HttpTarget | None:
    """What the table says to run. None when it says nothing, or something wrong."""
    target, url, runtime_api = table.text("target"), table.text("url"), table.flag("runtime_api")
    if target is not None and url is not None:
        table.fault("url", "there is a target, too; a function has one of them")
    elif url is not None:
        return _http_target(table, url, runtime_api)
    elif target is not None:
        if runtime_api is not None:
            table.fault("runtime_api", "belongs to a url")
        return _python_target(table, target, isolation)
    return None


def _http_target(table: _Table, url: str, runtime_api: bool | None) -> HttpTarget | None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        valid = False
    if not valid:
        table.fault("url", f"{_shown(url)} is not an http:// or https:// address")
        return None
    is_emulator = _EMULATOR_PATH.fullmatch(parts.path) is not None
    return HttpTarget(url, is_emulator if runtime_api is None else runtime_api)


def _python_target(table: _Table, text: str, isolation: str | None) -> PythonTarget | None:
    match = _PYTHON_TARGET.fullmatch(text)
    if match is None:
        module, _, attribute = text.rpartition(".")
        table.fault(
            "target",
            f"{_shown(text)} is not module:function" + (f"; did you mean {module}:{attribute}?" if module else ""),
        )
        return None
    target = PythonTarget(match[1], match[2], "inline")
    try:
        asynchronous = is_async(load_handler(target))
    except (Exception, SystemExit) as error:
        fault = str(error) if isinstance(error, NotAHandler) else _import_fault(target.module, error)
        if not table.lenient:
            table.fault("target", fault)
            return None
        log.error("%s cannot be run here: %s", text, fault)
        return dataclasses.replace(target, isolation="process" if isolation == "process" else "thread")
    if isolation == "thread" and asynchronous:
        table.fault("isolation", f"{match[2]} is an async def function, which runs inline or in a process")
    if isolation == "inline" and not asynchronous:
        table.fault("isolation", f"{match[2]} is not an async def function; it runs in a thread or a process")
    return dataclasses.replace(target, isolation=isolation or ("inline" if asynchronous else "thread"))  # type: ignore[arg-type]  # one of its choices


def _import_fault(module: str, error: BaseException) -> str:
    """Why *module* cannot be imported, and where in it."""
    if isinstance(error, SyntaxError):
        return f"importing {module}: {error.filename}, line {error.lineno}: {error.msg}"
    if isinstance(error, ModuleNotFoundError) and error.name and module.startswith(error.name):
        return f"there is no module {error.name} beside the file or on Python's path"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen ")]
    return f"importing {module}: {frames[-1].filename}, line {frames[-1].lineno}: {type(error).__name__}: {error}"


# -- destinations ----------------------------------------------------------------------------------------------------


_KAFKA = "kafka://"
_SENDS: dict[DestinationSetting, str] = {
    "on_success": "sends records of successes to",
    "on_failure": "sends records of failures to",
    "dead_letter": "sends dead letters to",
}


def _destination(table: _Table, key: DestinationSetting, provider: Provider) -> Destination | None:
    address = table.text(key)
    if address is None:
        return None
    if provider.parse_destination(address) is not None:
        return FunctionDestination(address)
    return _topic_or_service(table, key, address, provider, f", the ARN or URN of a function of {provider.name}")


def _dead_letter(table: _Table, provider: Provider) -> KafkaDestination | ServiceDestination | None:
    address = table.text("dead_letter")
    return None if address is None else _topic_or_service(table, "dead_letter", address, provider)


def _topic_or_service(
    table: _Table, key: DestinationSetting, address: str, provider: Provider, or_what: str = ""
) -> KafkaDestination | ServiceDestination | None:
    topic = kafka_topic(address)
    if topic is not None:
        return KafkaDestination(topic)
    known = provider.parse_service(address, key) is not None
    if known or (table.lenient and not address.startswith(_KAFKA)):
        return ServiceDestination(address)
    table.fault(key, f"{_shown(address)} is not kafka://topic{or_what} or a service that {provider.name} {_SENDS[key]}")
    return None


def kafka_topic(address: str) -> str | None:
    """The topic in ``kafka://topic``; None for anything else, and for a name that no topic can have."""
    topic = address.removeprefix(_KAFKA)
    return topic if topic != address and _TOPIC.fullmatch(topic) else None


def _shown(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _either(choices: Iterable[object]) -> str:
    return " or ".join(_shown(choice) for choice in choices)
