"""`streams gateway` before it serves: where, for whom, and over TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from streams.cli import main
from streams.commands.gateway import _tls, address, is_loopback
from streams.errors import ConfigurationError
from streams.gateway.keys import Keys, read_keys
from streams.gateway.server import Server

from .test_server import Echo
from .tls import certificate


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:0", "::1", 0),
        (":80", "127.0.0.1", 80),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
    ],
)
def test_where_to_listen(text: str, host: str, port: int) -> None:
    assert address(text) == (host, port)


@pytest.mark.parametrize("text", ["8080", "127.0.0.1", "127.0.0.1:", "h:-1", "h:65536", "h:http"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not host:port"):
        address(text)


@pytest.mark.parametrize(
    ("host", "only_here"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("::", False)]
)
def test_who_can_connect(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_without_keys_others_than_this_machine_are_not_let_in_by_mistake() -> None:
    result = CliRunner().invoke(main, ["gateway", "--listen", "0.0.0.0:0"])

    assert result.exit_code == 2
    assert "name a file with --keys, or let everybody in with --no-keys" in result.output


def test_keys_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text('[[key]]\nid = "a"\nsecret = "s"\n[[key]]\nid = "b"\nsecret = "t"\ntoken = "x"\n')

    keys = read_keys(file)

    assert keys == Keys({"a": "s", "b": "t"}, {"x": "b"})
    assert "s" not in repr(keys).replace("Keys", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no"),
        ("[[key]]\nid = 1\nsecret = 'hidden'\n", "number 1: write"),
        ("[[key]]\nid = 'a'\n", "number 1: write"),
        ("[[key]]\nid = 'a'\nsecret = 'hidden'\nmore = 'x'\n", "number 1: write"),
        ("[[key]]\nid = 'a'\nsecret = 'hidden'\n[[key]]\nid = 'a'\nsecret = 'hidden'\n", "number 2: there is another"),
        ("key = 'hidden'\n", "number 1: write"),
        ("hidden", "is not a TOML file"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_without_being_shown(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        read_keys(file)

    assert why in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_certificate_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot use the certificate"):
        _tls(tmp_path / "nothing.pem", None)
    with pytest.raises(ConfigurationError, match="needs --tls-cert"):
        _tls(None, tmp_path / "key.pem")


async def test_it_serves_https(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    server = Server({}, Echo())
    port = await server.start("127.0.0.1", 0, _tls(chain, key))
    trusting = ssl.create_default_context(cafile=str(chain))
    try:
        async with aiohttp.ClientSession() as session:
            url = f"https://localhost:{port}/echo/x"
            async with session.post(url, data=b"hi", ssl=trusting) as reply:
                assert (reply.status, await reply.read()) == (200, b"hi")
    finally:
        await server.stop()
