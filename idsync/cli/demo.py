"""`idsync demo`."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

import click

AWAKE = 0.5
"""Seconds between two looks whether a signal has come."""


@click.command()
@click.option("--keep", is_flag=True, help="Keep daemon and sandbox running in the foreground, to play with.")
def demo(keep: bool) -> int:
    """Sandbox, daemon, and a scripted joiner, mover and leaver; prints what happened to the keys, with times.

    Exits 0 only if every key of the leavers is refused on every replica and everybody else's still works.
    """
    from idsync import logs

    logs.configure("error", "text")
    with tempfile.TemporaryDirectory(prefix="idsync-demo-") as folder:
        return _keep(Path(folder)) if keep else _play(Path(folder))


def _play(folder: Path) -> int:
    from idsync.demo.report import account_of, summary
    from idsync.demo.stage import staged
    from idsync.demo.story import Run, Story

    runs = []
    for name, dialect, fence, title in (
        ("litellm", "litellm", True, "A LiteLLM proxy with 3 replicas; deletions are not broadcast between them"),
        ("routero", "routero", False, "A Routero gateway (its own verbs and key ids) that has no fence"),
    ):
        place = folder / name
        place.mkdir()
        run = Run(title)
        with staged(place, dialect=dialect, fence=fence) as stage:
            Story(stage, run).play()
        for line in account_of(run):
            click.echo(line)
        runs.append(run)
    click.echo(summary(runs))
    return 5 if any(run.problems for run in runs) else 0


def _keep(folder: Path) -> int:
    from idsync.demo.stage import staged

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background has it ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with staged(folder, dialect="litellm", fence=True, ports=(8080, 9090, 4000), cache_ttl=2.0) as stage:
        token = stage.tokens["okta"]
        operator = stage.idsync("token", "new", "--operator", "you", "--scope", "approve", "--expires", "1d")
        click.echo(f"SCIM      {stage.scim_url}   (source okta)")
        click.echo(f"token     {token}")
        click.echo(f"gateway   {stage.sandbox.url}   (stand-in, 3 replicas; its log: {stage.sandbox.url}/_sandbox/log)")
        click.echo(f"page      {stage.ops_url}/   (the status page; paste the operator token into its form)")
        click.echo(f"operator  {operator}")
        click.echo(f"metrics   {stage.ops_url}/metrics")
        click.echo(f"commands  {sys.argv[0]} -c {folder}/config.toml status")
        click.echo(
            f"a drill   {sys.argv[0]} -c {folder}/config.toml drill   (some seconds: a deleted key lives 2 s here)"
        )
        click.echo("")
        click.echo("try:")
        body = '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada@example.com","active":true}'
        click.echo(f"  curl -s -X POST {stage.scim_url}/Users -H 'Authorization: Bearer {token}' \\")
        click.echo(f"       -H 'Content-Type: application/scim+json' -d '{body}'")
        click.echo("")
        try:
            click.echo("Ctrl-C ends it.")
            while True:
                time.sleep(AWAKE)  # one that another thread has got wakes nobody
        except KeyboardInterrupt:
            click.echo("stopping")
    return 0
