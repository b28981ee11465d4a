"""`idsync serve`."""

from __future__ import annotations

import click

from idsync.cli.client import say, settings


@click.command()
@click.pass_context
def serve(ctx: click.Context) -> int:
    """Run the daemon: SCIM endpoint, scheduler, engine.

    Ends in order on SIGTERM or SIGINT, reads the configuration again on SIGHUP, runs a pass now on SIGUSR1.
    """
    config = settings(ctx)

    import uvloop

    from idsync.app import Daemon

    def ready(scim: str, ops: str) -> None:
        say(f"idsync serves SCIM at {scim}/scim/v2 and operations at {ops}", err=True)

    uvloop.run(Daemon(config, on_ready=ready, reread=lambda: settings(ctx)).serve())
    return 0
