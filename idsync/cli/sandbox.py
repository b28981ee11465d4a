"""`idsync sandbox`."""

from __future__ import annotations

import click


@click.command()
@click.option("--port", type=int, default=4000, show_default=True)
@click.option("--dialect", type=click.Choice(["routero", "litellm"]), default="litellm", show_default=True)
@click.option("--replicas", type=click.IntRange(1, 32), default=3, show_default=True)
@click.option(
    "--cache-ttl", type=float, default=60.0, show_default=True, metavar="S", help="How long a replica trusts a key."
)
@click.option("--no-fence", is_flag=True, help="A gateway that ignores metadata.scim_active.")
def sandbox(port: int, dialect: str, replicas: int, cache_ttl: float, no_fence: bool) -> int:
    """A stand-in gateway on loopback, with hooks under /_sandbox/ to seed it, to break it and to read its log."""
    from idsync.sandbox.server import Options, run

    options = Options(dialect=dialect, replicas=replicas, cache_ttl=cache_ttl, fence=not no_fence, port=port)

    def ready(url: str) -> None:
        click.echo(f"sandbox ({dialect}, {replicas} replicas) at {url}  admin key {options.admin_key}")
        click.echo(f"request log: curl {url}/_sandbox/log")

    run(options, ready)
    return 0
