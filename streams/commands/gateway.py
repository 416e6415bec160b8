"""`streams gateway`: the providers' APIs over HTTP."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from pathlib import Path

import click
import uvloop

from streams.commands.base import pass_settings, run
from streams.errors import ConfigurationError
from streams.gateway.keys import Keys, read_keys
from streams.settings import Settings

DEFAULT = "127.0.0.1:8080"


@click.command()
@click.option(
    "--listen",
    envvar="STREAMS_LISTEN",
    show_envvar=True,
    default=DEFAULT,
    show_default=True,
    metavar="HOST:PORT",
    help="Where to serve; port 0 is a free one. IPv6 as [::1]:8080.",
)
@click.option(
    "--keys",
    "keys_file",
    envvar="STREAMS_KEYS",
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A TOML file of [[key]] tables with id, secret and token: requests must be signed with one of them.",
)
@click.option("--no-keys", is_flag=True, help="Let everybody in, although others than this machine can connect.")
@click.option(
    "--tls-cert",
    envvar="STREAMS_TLS_CERT",
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Certificate chain (PEM): serve HTTPS.",
)
@click.option(
    "--tls-key",
    envvar="STREAMS_TLS_KEY",
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Its private key (PEM), if that is not in the same file.",
)
@click.option(
    "--console/--no-console",
    "projects",
    default=True,
    help="Whether a `streams console` of this gateway keeps the read model up to date.  [default: yes]",
)
@pass_settings
def gateway(
    settings: Settings,
    listen: str,
    keys_file: Path | None,
    no_keys: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    projects: bool,
) -> None:
    """Serve the providers' APIs until Ctrl-C or SIGTERM.

    Programs written for AWS Lambda, Alibaba Function Compute or Huawei FunctionGraph invoke functions here by changing
    the endpoint of their SDK. An invocation is accepted (202) when Kafka has it for good.

    What became of invocations is looked up in the read model (STREAMS_READ_MODEL), which a `streams console` beside the
    gateway keeps up to date; with --no-console, one that runs elsewhere does.

    Without keys, only this machine may connect. With keys, requests must carry the signature that the cloud's SDK makes
    with one of them (AWS SigV4, Alibaba ACS3 and FC, Huawei SDK-HMAC-SHA256, or a token).

    \b
    Examples:
      streams gateway
      streams gateway --listen 0.0.0.0:443 --keys keys.toml --tls-cert chain.pem --tls-key key.pem
      aws --endpoint-url http://127.0.0.1:8080 lambda invoke --function-name resize --invocation-type Event out
    """
    from streams import connections
    from streams.gateway.run import Listening, serve, show

    host, port = address(listen)
    keys = read_keys(keys_file) if keys_file is not None else Keys()
    if not keys:
        if not no_keys and not is_loopback(host):
            raise ConfigurationError(
                f"{host} can be reached from other machines, and no keys are configured: name a file with --keys, "
                "or let everybody in with --no-keys"
            )
        click.echo(
            "No keys are configured: requests need not be signed, everybody who can connect is let in.", err=True
        )
    listening = Listening(host=host, port=port, tls=_tls(tls_cert, tls_key), keys=keys, projects=projects)
    connections.install()
    run(serve(settings, listening, show), uvloop.new_event_loop)


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to *host*."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise ConfigurationError("--tls-key needs --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"cannot use the certificate {certificate}: {error}") from error
    return context


def address(text: str) -> tuple[str, int]:
    """Host and port in ``host:port``. Raises `ConfigurationError`."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{text!r} is not host:port, as in {DEFAULT} or [::1]:8080")
    return host.strip("[]") or "127.0.0.1", int(port)
