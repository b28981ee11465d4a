"""`idsync serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from idsync.cli.beside import beside
from idsync.cli.client import say, settings
from idsync.errors import StoreBusy
from idsync.store.address import is_shared

if TYPE_CHECKING:
    from idsync.app.daemon import Role


@click.command()
@click.option(
    "--role",
    type=click.Choice(["all", "web", "worker"]),
    default="all",
    help="Of several that share a database: answer SCIM, do the work, or both.",
)
@click.pass_context
def serve(ctx: click.Context, role: Role) -> int:
    """Run the daemon: SCIM endpoint, scheduler, engine.

    Ends in order on SIGTERM or SIGINT, reads the configuration again on SIGHUP, runs a pass now on SIGUSR1.
    """
    config = settings(ctx)
    if not is_shared(config.store.url) and beside(config).state == "runs":
        held = f"another idsync process holds the store ({config.store.url})"
        raise StoreBusy(
            f"{held}: a daemon serves from it already; `idsync status` shows it, and one store has one daemon"
        )

    import uvloop

    from idsync.app import Daemon

    def ready(scim: str, ops: str) -> None:
        answers = f"works beside those that serve SCIM, answers probes at {scim}"
        answers = answers if role == "worker" else f"serves SCIM at {scim}/scim/v2"
        say(f"idsync {answers} and operations at {ops}", err=True)

    uvloop.run(Daemon(config, on_ready=ready, reread=lambda: settings(ctx), role=role).serve())
    return 0
