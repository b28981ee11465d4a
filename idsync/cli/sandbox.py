"""`idsync sandbox`."""

from __future__ import annotations

import click

from idsync.words import count


@click.command()
@click.option("--port", type=int, default=4000, show_default=True)
@click.option("--dialect", type=click.Choice(["routero", "litellm"]), default="litellm", show_default=True)
@click.option("--replicas", type=click.IntRange(1, 32), default=3, show_default=True)
@click.option(
    "--cache-ttl", type=float, default=60.0, show_default=True, metavar="S", help="How long a replica trusts a key."
)
@click.option("--no-fence", is_flag=True, help="A gateway that ignores metadata.scim_active.")
def sandbox(port: int, dialect: str, replicas: int, cache_ttl: float, no_fence: bool) -> int:
    """Stand-ins on loopback of a gateway, of Okta (/okta) and of Microsoft Graph (/graph, Entra under /entra).

    Hooks under /_sandbox/, /_sandbox/okta/ and /_sandbox/graph/ seed them, change them, break them and read their logs.
    """
    from idsync.sandbox.graph import service as graph
    from idsync.sandbox.okta import service as okta
    from idsync.sandbox.server import Options, Sandbox, run

    options = Options(dialect=dialect, replicas=replicas, cache_ttl=cache_ttl, fence=not no_fence, port=port)

    def ready(running: Sandbox) -> None:
        url = running.url
        click.echo(f"sandbox ({dialect}, {count(replicas, 'replica')}) at {url}  admin key {options.admin_key}")
        if replicas > 1:
            click.echo(f"  replicas, each by itself: {url}/replica/0 to {url}/replica/{replicas - 1}")
        click.echo(f"okta at {running.okta_url}  SSWS token {okta.TOKEN}")
        click.echo(f"graph at {running.graph_url}  authority {running.entra_url}/{graph.TENANT}")
        click.echo(f"  client id {graph.CLIENT}  client secret {graph.SECRET}")
        click.echo(
            f"  managed identity: IDENTITY_ENDPOINT={running.entra_url}/msi/token IDENTITY_HEADER={graph.IDENTITY_HEADER}"
        )
        click.echo(f"request logs: curl {url}/_sandbox/log, {url}/_sandbox/okta/log, {url}/_sandbox/graph/log")

    run(options, ready)
    return 0
