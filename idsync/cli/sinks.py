"""`idsync sinks`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, say, settings, show
from idsync.errors import NotFound, UsageError

if TYPE_CHECKING:
    from idsync.config import Config, Sink


@click.group()
def sinks() -> None:
    """The places that new secrets are delivered to: try them without a real key."""


@sinks.command()
@click.argument("name", required=False)
@JSON
@click.pass_context
def check(ctx: click.Context, name: str | None, as_json: bool) -> int:
    """Ask every sink, or the one called NAME, what would keep it from taking a secret. Writes nothing.

    A folder is looked at, a command is not run, Vault is asked what the token may do there, Kubernetes does a dry run.
    Exit code 1 when a sink would not take a secret.
    """
    config = settings(ctx)
    entries = [_named(config, name)] if name else list(config.sinks)
    found = asyncio.run(_ask(config, entries))
    if as_json:
        show([{"name": sink.name, "kind": sink.kind, "ok": not says, "problems": says} for sink, says in found])
        return int(any(says for _, says in found))
    if not found:
        say("no [[sinks]] in the configuration")
    for sink, says in found:
        for told in says or ["can take a secret"]:
            say(f"{'WRONG' if says else 'ok':5}  {sink.name:13}  {sink.kind}: {told}")
    return int(any(says for _, says in found))


@sinks.command()
@click.argument("name")
@click.option(
    "--overwrite", is_flag=True, help="Also where the place is the same for every key: it replaces what is there."
)
@JSON
@click.pass_context
def test(ctx: click.Context, name: str, overwrite: bool, as_json: bool) -> int:
    """Deliver a value that is no key, so that you can see it arrive; it stays there until you remove it.

    It goes where a key of the alias and team `idsync-sink-test` would. Exit code 1 when the sink does not take it.
    """
    from idsync.clock import new_secret
    from idsync.config import place_of, sink_varies
    from idsync.sinks.places import TRIAL

    config = settings(ctx)
    entry = _named(config, name)
    if not sink_varies(entry) and not overwrite:
        msg = f"sink {name} has one place for every key, and a test would replace what is there; see --overwrite"
        raise UsageError(msg)
    value = f"idsync-canary-not-a-key-{new_secret()[:12]}"
    asyncio.run(_deliver(config, entry, value))
    place = place_of(entry, TRIAL, TRIAL)
    if as_json:
        show({"name": name, "kind": entry.kind, "place": place, "value": value})
    else:
        say(f"sink {name} has taken {value}")
        say(f"look for it at: {place}; then remove it")
    return 0


def _named(config: Config, name: str) -> Sink:
    for entry in config.sinks:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in config.sinks) or "none"
    msg = f"no sink is called {name!r} (there are: {known}); see [[sinks]] in the configuration"
    raise NotFound(msg)


async def _ask(config: Config, entries: list[Sink]) -> list[tuple[Sink, list[str]]]:
    from idsync.app import sinks_of

    built = sinks_of(entries, config.http.ca_file)
    found = await asyncio.gather(*(built[entry.name].check() for entry in entries))
    return list(zip(entries, found, strict=True))


async def _deliver(config: Config, entry: Sink, value: str) -> None:
    from pydantic import SecretStr

    from idsync.app import sinks_of
    from idsync.sinks.base import Delivery
    from idsync.sinks.places import TRIAL

    sink = sinks_of([entry], config.http.ca_file)[entry.name]
    try:
        await sink.deliver(Delivery(SecretStr(value), TRIAL, TRIAL, TRIAL, None))
    finally:
        await sink.close()
