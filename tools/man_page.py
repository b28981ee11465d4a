"""Writes the man page of `idsync` from its commands: `make man`, then `man -l dist/man/idsync.1`.

python tools/man_page.py dist/man/idsync.1
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from idsync import __version__
from idsync.cli.main import cli
from idsync.errors import EXIT_CODES

FILES = (
    (
        "./config.toml, /etc/idsync/config.toml",
        "where the configuration is looked for, unless -c or IDSYNC_CONFIG names it",
    ),
    ("/var/lib/idsync/idsync.db", "the store, unless store.url names another"),
    ("/var/lib/idsync/idsync.db.ctl/s", "the socket on which the daemon answers commands of its own user and root"),
)
SIGNALS = (
    ("TERM, INT", "end in order; the second one ends at once"),
    ("HUP", "read the configuration again"),
    ("USR1", "list every source and run a pass now"),
)
CODES = tuple((code, meaning.replace("`", "")) for code, meaning in EXIT_CODES.items())


def quoted(text: str) -> str:
    """Return text so that troff takes it as it stands."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.replace("\b", "").strip().split("\n\n")):
        if number:
            yield ".PP"
        yield quoted(" ".join(paragraph.split()))


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    for param in command.params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None:
            yield from (".TP", f"\\fB{quoted(record[0])}\\fR", quoted(" ".join(record[1].split())) or "\\&")


def commands(command: click.Command, parent: click.Context) -> Iterator[str]:
    """Yield a command with its options, and those below it."""
    context = click.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f'.SS "{quoted(f"{context.command_path} {usage}")}"'
    yield from paragraphs(command.help or "")
    yield from options(command, context)
    yield from below(command, context)


def below(command: click.Command, context: click.Context) -> Iterator[str]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from commands(found, context)


def listed(title: str, rows: tuple[tuple[object, str], ...]) -> Iterator[str]:
    yield f".SH {title}"
    for name, text in rows:
        yield from (".TP", f"\\fB{quoted(str(name))}\\fR", quoted(text))


def page() -> str:
    context = click.Context(cli, info_name="idsync")
    lines = [
        f'.TH IDSYNC 1 "" "idsync {__version__}" "User commands"',
        ".SH NAME",
        "idsync \\- gateway keys and teams follow the identity provider",
        ".SH SYNOPSIS",
        f"\\fBidsync\\fR {quoted(' '.join(cli.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION",
        *paragraphs((cli.help or "").partition("Exit codes:")[0]),
        ".SH OPTIONS",
        *options(cli, context),
        ".SH COMMANDS",
        *below(cli, context),
        *listed("SIGNALS", SIGNALS),
        *listed('"EXIT STATUS"', CODES),
        *listed("FILES", FILES),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    target = Path(arguments[0] if arguments else "dist/man/idsync.1")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
