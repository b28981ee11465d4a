"""How a command reaches the store: through the daemon's socket when one runs, else by itself under the lock."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from idsync.cli.beside import Connection, another, beside, differing, refusal, remedy, socket_of
from idsync.errors import ConfigError, IdsyncError
from idsync.localuser import user_name

if TYPE_CHECKING:
    from idsync.config import Config, Loaded
    from idsync.gateway.client import Gateway
    from idsync.store.db import Db

T = TypeVar("T")
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


def loaded(ctx: click.Context) -> Loaded:
    """Load the configuration that the global options name, and set up logging."""
    from idsync import config, logs

    logs.configure(ctx.obj["level"], ctx.obj["format"], color=ctx.obj["color"])
    found: Loaded = config.load(ctx.obj["config"])
    ctx.obj["file"] = found.path
    return found


def settings(ctx: click.Context) -> Config:
    return loaded(ctx).config


def who() -> str:
    """Return who runs this command, for the audit trail: the kernel's word, not $USER; of root, who sudo says it was."""
    name = user_name(os.getuid())
    behind = os.environ.get("SUDO_USER", "") if os.getuid() == 0 else ""
    return f"{name} (sudo by {behind})" if behind and behind.isprintable() else name


class Refused(IdsyncError):
    """The daemon refused the command."""

    def __init__(self, message: str, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(message)


def ask(config: Config, command: str, **params: Any) -> dict[str, Any]:
    """Run a writing command in the daemon, or in this process when no daemon runs.

    Raises:
        StoreBusy: a process holds the store but does not answer.
        OtherConfiguration: the daemon goes by another one, and what the command does would follow from that.
        IdsyncError: what the command raised.
    """
    from idsync.config import digest
    from idsync.store.address import is_shared
    from idsync.web.paths import DIGEST

    if is_shared(config.store.url):
        _mind_the_others(config, command)
        return asyncio.run(_alone(config, command, params))
    connection = Connection(socket_of(config))
    try:
        connection.connect()
    except OSError:
        return asyncio.run(_alone(config, command, params))
    with contextlib.closing(connection):
        try:
            meant = {"Content-Type": "application/json", DIGEST: digest(config)}
            connection.request("POST", f"/v1/{command}", json.dumps(params), meant)
            answer = json.loads(connection.getresponse().read())
        except (http.client.HTTPException, OSError, ValueError) as error:
            msg = "the daemon ended before it had answered; what it began it ends, or undoes, after its next start"
            raise IdsyncError(msg) from error
    differs = differing(config, answer)
    if differs and answer.get("other_configuration"):
        raise refusal(differs)
    if differs:
        say(f"note: {another(differs)}, and this command went by its own; {remedy(differs)}", err=True)
    if "error" in answer:
        raise Refused(answer["error"], int(answer["exit_code"]))
    result: dict[str, Any] = answer["result"]
    return result


def _mind_the_others(config: Config, command: str) -> None:
    """On a shared store, where daemons go by another configuration: refuse what would follow from ours.

    Raises:
        OtherConfiguration: the command would do something else by theirs.
    """
    from idsync.commands import FOLLOWS_FROM_THE_CONFIGURATION, JUDGES_BY_THE_CONFIGURATION

    differs = beside(config).differs or ()
    if differs and command in FOLLOWS_FROM_THE_CONFIGURATION | JUDGES_BY_THE_CONFIGURATION:
        raise refusal(differs)
    if differs:
        say(f"note: {another(differs)}; {remedy(differs)}", err=True)


def told_of(config: Config) -> tuple[str, ...]:
    """Note on stderr that a running daemon goes by another configuration, and return in what it differs."""
    differs = beside(config).differs or ()
    if differs:
        say(f"note: {another(differs)}; {remedy(differs)}", err=True)
    return differs


async def _alone(config: Config, command: str, params: dict[str, Any]) -> dict[str, Any]:
    from idsync.app import alone

    async with alone(config) as commands:
        return await commands.run(command, params)


@contextlib.contextmanager
def reading(config: Config) -> Iterator[Db]:
    """Open the store read-only, beside a daemon or without one."""
    from idsync.app.parts import store_password
    from idsync.store.opening import read_only

    with read_only(config.store.url, store_password(config)) as db:
        yield db


def asking_the_gateway(config: Config, work: Callable[[Gateway], Awaitable[T]]) -> T:
    """Run something that only reads at the gateway, beside a daemon or without one.

    Raises:
        ConfigError: the gateway, or the key to it, is not configured.
        GatewayError: it could not be read.
    """
    from idsync.app import gateway_of, start_problems
    from idsync.clock import SystemClock

    problems = [problem for problem in start_problems(config) if problem[0].startswith("routero")]
    if problems:
        raise ConfigError(problems)

    async def run() -> T:
        async with gateway_of(config, SystemClock()) as gateway:
            return await work(gateway)

    return asyncio.run(run())


def from_the_store(config: Config, read: Callable[[Db], T], otherwise: Callable[[], T]) -> T:
    """Read the store where there is one yet."""
    from idsync.app.parts import store_password
    from idsync.store.opening import exists

    if not exists(config.store.url, store_password(config)):
        return otherwise()
    with reading(config) as db:
        return read(db)


_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves the cursor, colours or turns text round: names come from whoever may write to a directory."""


def printable(text: str) -> str:
    """Return a line with every control character written as its escape."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    click.echo(printable(text), err=err)


def show(data: Any) -> None:
    """Print data as JSON on stdout."""
    for line in json.dumps(data, indent=2, ensure_ascii=False).split("\n"):
        say(line)


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """Print aligned columns; the last one is never padded."""
    every = [head, *(tuple(map(printable, row)) for row in rows)]
    widths = [max(len(row[index]) for row in every) for index in range(len(head) - 1)]
    for row in every:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        say("  ".join([*cells, row[-1]]).rstrip())


def ago(seconds: float) -> str:
    """Return a length of time for people."""
    if seconds < 120:
        return f"{seconds:.0f}s"
    if seconds < 7200:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.0f}h" if seconds < 172800 else f"{seconds / 86400:.0f}d"
