"""`idsync notify`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from idsync.cli.client import JSON, say, settings, show
from idsync.errors import NotFound, UsageError

if TYPE_CHECKING:
    from idsync.config import Config


@click.group()
def notify() -> None:
    """Who is told what: holds, keys that are alive, silent sources and more."""


@notify.command()
@click.argument("name", required=False)
@JSON
@click.pass_context
def test(ctx: click.Context, name: str | None, as_json: bool) -> int:
    """Send a message marked as a test to every [[notify]] of the configuration, or to the one of that NAME.

    Works without a daemon and without a store. Exit code 1 when one was not delivered.
    """
    config = settings(ctx)
    known = [entry.name for entry in config.notify]
    if not known:
        raise UsageError("the configuration has no [[notify]]; docs/notifications.md shows one")
    if name is not None and name not in known:
        raise NotFound(f"the configuration has no notify {name!r} (it has: {', '.join(known)})")
    results = asyncio.run(_try([name] if name is not None else known, config))
    if as_json:
        show([{"name": name, "delivered": why is None, "error": why} for name, why in results])
    else:
        for receiver, why in results:
            say(f"{receiver}: delivered" if why is None else f"{receiver}: NOT DELIVERED: {why}")
    return 0 if all(why is None for _, why in results) else 1


async def _try(names: list[str], config: Config) -> list[tuple[str, str | None]]:
    from idsync.clock import SystemClock
    from idsync.errors import ConfigError, NotDelivered
    from idsync.notify.message import test_message
    from idsync.notify.sending import send

    now = SystemClock().now()

    async def one(name: str) -> tuple[str, str | None]:
        entry = next(entry for entry in config.notify if entry.name == name)
        message = test_message(name, config.server.public_url, now)
        try:
            await send(entry, message, ca_file=config.http.ca_file, now=now)
        except (NotDelivered, ConfigError) as error:
            return name, str(error)
        return name, None

    return list(await asyncio.gather(*[one(name) for name in names]))
