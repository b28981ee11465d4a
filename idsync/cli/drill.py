"""`idsync drill`."""

from __future__ import annotations

from typing import Any

import click

from idsync.cli.client import JSON, ask, say, settings, show, table, who
from idsync.errors import UsageError
from idsync.words import at_most


@click.command()
@click.option("--source", metavar="NAME", help="Come in through this source of the configuration; needs --token-file.")
@click.option("--token-file", metavar="FILE", help="File with a live token of that source.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 1800),
    metavar="SECONDS",
    help="How long a key may go on being taken. Default: twice the cache time, at least 90.",
)
@JSON
@click.pass_context
def drill(ctx: click.Context, source: str | None, token_file: str | None, timeout: float | None, as_json: bool) -> int:
    """Send a canary through the whole chain, and try its own key on every replica until it is refused.

    The replicas are those in routero.replica_urls; without any, the gateway's one address is tried.
    Beside it a key is only fenced, and another only deleted: that shows whether the gateway's fence works, and how long
    a deleted key may live. Needs the running daemon. What is made is removed again.
    """
    from idsync.config import read_secret

    config = settings(ctx)
    if (source is None) != (token_file is None):
        raise UsageError("--source and --token-file belong together")
    token = read_secret(token_file) if token_file is not None else None
    result = ask(config, "drill", by=who(), source=source, token=token, timeout=timeout)
    show(result) if as_json else _print(result)
    return int(result["exit_code"])


def _print(result: dict[str, Any]) -> None:
    rows = [
        (
            _in_seconds(entry["chain_seconds"]),
            _in_seconds(entry["fence_seconds"]),
            _in_seconds(entry["deletion_seconds"]),
            entry["url"],
        )
        for entry in result["replicas"]
    ]
    apart = result["replicas_told_apart"]
    say(f"how long {'each replica' if apart else 'the gateway'} went on taking a key, by what was done:")
    table(rows, ("SOMEBODY LEFT", "ONLY FENCED", "ONLY DELETED", "REPLICA" if apart else "ADDRESS"))
    if not apart:
        say("routero.replica_urls is empty: one address was tried, and which processes are behind it is not known")
    if result["refused_seconds"] is not None:
        verified = result["verified_seconds"]
        then = "" if verified is None else f", the departure verified after {_in_seconds(verified)}"
        refused = f"the last refusal after {_in_seconds(result['refused_seconds'])}"
        say(f"counted from the push (source {result['source']}): {refused}{then}")
    if result["fence"]["verdict"] is not None:
        say(f"fence: {result['fence']['verdict']}")
    if result["cache_window_seconds"] is not None:
        say(f"a deleted key may live up to {at_most(result['cache_window_seconds'])} here")
    for problem in result["problems"]:
        say(f"FAILED {problem['what']}")


def _in_seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
