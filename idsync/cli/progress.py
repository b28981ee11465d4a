"""A bar for long listings, on a terminal and nowhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

import click

from idsync.cli.client import reading

if TYPE_CHECKING:
    from idsync.config import Config

T = TypeVar("T")
LOOK_EVERY = 0.5
WIDTH = 30


def shown(config: Config, sources: Iterable[str], work: Callable[[], T]) -> T:
    """Do the work; meanwhile show on a terminal how far the listings of these sources are."""
    names = sorted(sources)
    if not names or not sys.stderr.isatty():
        return work()
    context = click.get_current_context(silent=True)

    def within() -> T:
        with context.scope(cleanup=False) if context is not None else contextlib.nullcontext():
            return work()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(within)
        try:
            while not wait([running], LOOK_EVERY).done:
                _draw(_read(config, names))
        finally:
            click.echo("\r\033[K", err=True, nl=False)
        return running.result()


def _read(config: Config, names: Iterable[str]) -> list[tuple[str, dict[str, Any]]]:
    """Read from the store how far each listing is; a daemon or this process writes it there."""
    from idsync.errors import StoreError
    from idsync.store import facts

    with contextlib.suppress(StoreError), reading(config) as db:
        return [(name, said) for name in names if (said := facts.get(db, f"progress:{name}")) is not None]
    return []


def _draw(listings: list[tuple[str, dict[str, Any]]]) -> None:
    parts = [_bar(name, said["what"], said["done"], said["of"]) for name, said in listings]
    click.echo("\r\033[K" + "  ".join(parts), err=True, nl=False)


def _bar(name: str, what: str, done: int, of: int | None) -> str:
    if not of:
        return f"{name}: {done:,} {what}"
    full = min(WIDTH, WIDTH * done // of)
    return f"{name} [{'#' * full}{'.' * (WIDTH - full)}] {done:,}/{of:,} {what}"
