"""Text from outside: decoded, checked and cut the same way everywhere."""

from __future__ import annotations

from streams.codec.errors import InputRejected

ERROR_TYPE_BYTES_MAX = 256
ERROR_MESSAGE_BYTES_MAX = 4096
"""Facts, retry records and dead letters keep so much of what a function said of its error. The provider's document, the
outcome's payload, has all of it."""


def cut(text: str, bytes_max: int) -> str:
    """*text*, or as much of its beginning as fits *bytes_max* bytes of UTF-8; lone surrogates become ``?``."""
    if text.isascii() and len(text) <= bytes_max:
        return text
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")


def decoded(raw: bytes, name: str) -> str:
    """*raw* as UTF-8. *name* says what it is, for the message. Raises InputRejected."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InputRejected("UndecodableInput", f"{name} is not UTF-8; encode it as UTF-8.") from None


def checked(text: str, name: str, chars_max: int) -> str:
    """*text* if it is a word we can show and store: not empty, not too long, printable. Raises InputRejected."""
    if text.isprintable() and 0 < len(text) <= chars_max:
        return text
    if not text:
        fault = "is empty; give it a value or leave it out"
    elif len(text) > chars_max:
        fault = f"has {len(text)} characters; at most {chars_max} are allowed"
    else:
        fault = "has control characters or others that cannot be printed; leave them out"
    raise InputRejected("UndecodableInput", f"{name} {fault}.")


def number(raw: bytes, name: str, least: int, most: int) -> int:
    """*raw* as a whole decimal number from *least* to *most*. Raises InputRejected."""
    # The length first: int() of thousands of digits takes its time. isdigit() on bytes means 0 to 9 only.
    if len(raw) <= 19 and raw.isdigit():
        return in_range(int(raw), name, least, most)
    raise InputRejected("UndecodableInput", f"{name} is not a whole number from {least} to {most}.")


def in_range(value: int, name: str, least: int, most: int) -> int:
    """*value* if it is from *least* to *most*. Raises InputRejected."""
    if least <= value <= most:
        return value
    raise InputRejected("UndecodableInput", f"{name} is not a whole number from {least} to {most}.")
