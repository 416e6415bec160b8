"""`streams console`: keep the read model up to date."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace

import click

from streams.commands.base import existing_topics, pass_settings, run, terminated_like_interrupted
from streams.console.projector import Projector
from streams.console.store import ReadModel
from streams.settings import Settings


@click.command()
@click.option(
    "--read-model",
    envvar="STREAMS_READ_MODEL",
    show_envvar=True,
    metavar="URL",
    help="A SQLite file, or the URL of a PostgreSQL database: postgresql://user:password@host/database.  [default: "
    "<prefix>read-model.db in the state folder, which is $STREAMS_STATE, else ~/.local/state/streams]",
)
@click.option("--rebuild", is_flag=True, help="First forget all that is there, and read the topics from the beginning.")
@pass_settings
def console(settings: Settings, read_model: str | None, rebuild: bool) -> None:
    """Keep the read model up to date until Ctrl-C or SIGTERM.

    The read model is where status APIs and `streams show` look up what happened to an invocation, and list them. It is
    made from the topics `facts`, `*.success` and `*.failure` and holds nothing else: delete it or make it anew whenever
    you like. Invocations of which nothing has happened for seven days are forgotten, as `facts` forgets them.

    It needs no worker and slows none. More than one on the same database do no harm: one works, the others stand by and
    take over. A broker or a database that is away is waited for.

    PostgreSQL needs a driver: pip install 'invocation-streams[postgresql]'.

    Exit codes: 0 stopped as told, 2 a setting or the topics are wrong, 3 Kafka does not answer at the start, 4 the
    database does not.

    \b
    Examples:
      streams console
      streams console --read-model postgresql://streams:secret@db/streams
      streams console --rebuild
    """
    if read_model:
        settings = replace(settings, read_model=read_model)
    with closing(ReadModel(settings.read_model_url())) as store, terminated_like_interrupted():
        run(existing_topics(settings, (settings.topics.facts, *settings.topics.records)))
        if rebuild:
            store.rebuild()
        else:
            store.prepare()
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        click.echo(f"Kafka at {settings.broker}, read model {store.where}; Ctrl-C stops it.", err=True)
        try:
            run(Projector(settings, store).run())
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
