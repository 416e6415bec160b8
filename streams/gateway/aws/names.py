"""How callers name Lambda functions: bare, partial ARN, ARN, each maybe with a version or alias. Pure.

The patterns are botocore's [D], printed in refusals as AWS prints them [V].
"""

from __future__ import annotations

import re
from typing import NamedTuple

from streams.gateway.aws.wire import fault, pattern_fault

_REGION = r"(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}"
_ARN = rf"(arn:(aws[a-zA-Z-]*)?:lambda:)?({_REGION}:)?(\d{{12}}:)?(function:)?"


class Rule(NamedTuple):
    """What a member `functionName` may be."""

    pattern: str
    chars_max: int


NAMESPACED = Rule(rf"{_ARN}([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?", 256)
"""Of operations that take a version or an alias."""
FUNCTION = Rule(rf"{_ARN}([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?", 140)

QUALIFIER_PATTERN = "(|[a-zA-Z0-9$_-]+)"
QUALIFIER_CHARS_MAX = 128
ALIAS_PATTERN = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)"
NAME_CHARS_MAX = 64
"""Of the name alone, when a function is made [V]."""

_PARTS = re.compile(
    rf"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?(?:(?P<region>{_REGION}):)?(?:(?P<account>\d{{12}}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_\.]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?",
    re.ASCII,
)
_QUALIFIER = re.compile(QUALIFIER_PATTERN)
_ALIAS = re.compile("(?![0-9]+$)[a-zA-Z0-9-_]+")


class Named(NamedTuple):
    """A function as a caller named it. None: not said."""

    name: str
    qualifier: str | None
    region: str | None
    account: str | None


def parse(text: str) -> Named | None:
    """None when *text* does not satisfy the pattern of any operation."""
    match = _PARTS.fullmatch(text)
    return Named(*match.group("name", "qualifier", "region", "account")) if match is not None else None


def name_faults(text: str, rule: Rule) -> list[str]:
    """What AWS's framework has against *text* as a function's name."""
    faults = []
    if len(text) > rule.chars_max:
        faults.append(fault(text, "functionName", f"have length less than or equal to {rule.chars_max}"))
    named = parse(text)
    if named is None or (rule is not NAMESPACED and ("." in named.name or named.qualifier == "$LATEST.PUBLISHED")):
        faults.append(pattern_fault(text, "functionName", rule.pattern))
    return faults


def qualifier_faults(text: str) -> list[str]:
    faults = []
    if len(text) > QUALIFIER_CHARS_MAX:
        faults.append(fault(text, "qualifier", f"have length less than or equal to {QUALIFIER_CHARS_MAX}"))
    if _QUALIFIER.fullmatch(text) is None:
        faults.append(pattern_fault(text, "qualifier", QUALIFIER_PATTERN))
    return faults


def is_alias(text: str) -> bool:
    """Whether *text* may name an alias; a number is a version."""
    return _ALIAS.fullmatch(text) is not None and len(text) <= QUALIFIER_CHARS_MAX


def is_version(text: str) -> bool:
    return text.isascii() and text.isdigit()
