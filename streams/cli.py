"""The command `streams`: its global options, and where each command lives."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from streams import __version__
from streams.errors import ConfigurationError, StreamsError
from streams.settings import Settings

COMMANDS = {
    "broker": "streams.local.command:broker",
    "cancel": "streams.commands.cancel:cancel",
    "console": "streams.commands.console:console",
    "demo": "streams.commands.demo:demo",
    "doctor": "streams.commands.doctor:doctor",
    "functions": "streams.commands.functions:functions",
    "gateway": "streams.commands.gateway:gateway",
    "invoke": "streams.commands.invoke:invoke",
    "records": "streams.commands.records:records",
    "show": "streams.commands.show:show",
    "topics": "streams.commands.topics:topics",
    "worker": "streams.commands.worker:worker",
}
"""Each command, and the module and attribute that has it. A module is imported when its command is needed: the Kafka
client alone takes a third of a second."""

PREFIX = re.compile(r"[a-zA-Z0-9._-]{0,200}")
"""What topic names may begin with."""


class Commands(click.Group):
    """Loads its commands when they are needed, and prints our errors as click prints its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamsError as error:
            failure = click.ClickException(str(error))
            failure.exit_code = error.exit_code
            raise failure from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                _forget_output()
                ctx.exit(0)  # whoever read our output (`head`, say) has seen enough
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--broker",
    envvar="STREAMS_BROKER",
    show_envvar=True,
    show_default=Settings().broker,
    metavar="HOST:PORT[,…]",
    help="Bootstrap servers of the Kafka cluster.",
)
@click.option(
    "--prefix",
    envvar="STREAMS_PREFIX",
    show_envvar=True,
    show_default="none",
    metavar="TEXT",
    help="Put before every topic name and the consumer group, for instance `staging.`.",
)
@click.option(
    "--config",
    envvar="STREAMS_CONFIG",
    show_envvar=True,
    show_default="streams.toml if it exists",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The functions file.",
)
@click.version_option(__version__, prog_name="streams", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context, broker: str | None, prefix: str | None, config: Path | None) -> None:
    """Asynchronous function invocation on Apache Kafka.

    A worker runs your functions as AWS Lambda, Alibaba Function Compute or Huawei FunctionGraph would run them when
    they are invoked asynchronously: with the cloud's retries, ages, throttling, records and dead letters.

    An option here wins over its environment variable, and that over the default. All other settings (TLS, SASL,
    limits) are environment variables that begin with STREAMS_.

    \b
    Examples:
      streams demo                                   see all of it at work, with nothing to set up
      streams broker                                 a Kafka for this machine
      streams topics create                          make the topics
      streams worker                                 run the functions of ./streams.toml
      streams invoke resize --payload '{}' --wait    run one, and see its record
    """
    _write_utf8()
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    given: dict[str, Any] = {"broker": broker, "prefix": prefix, "config": config}
    settings = Settings.from_env(os.environ)
    ctx.obj = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if not PREFIX.fullmatch(ctx.obj.prefix):
        raise ConfigurationError(f"{ctx.obj.prefix!r} cannot be a prefix: use letters, digits, dots, _ and - only")


def _write_utf8() -> None:
    """Records are UTF-8 whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _forget_output() -> None:
    """Point standard output nowhere, so that the interpreter's last flush does not meet the closed pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
