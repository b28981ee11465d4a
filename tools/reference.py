"""Writes docs/configuration.md, cli.md, metrics.md, exit-codes-and-events.md and parts of scim.md from the code.

    python tools/reference.py           write them
    python tools/reference.py --check   exit 1 when they are not what the code says

What a setting is for comes from the comment above it in config.example.toml; its kind and default from the models.
What a command does comes from its help. In docs/scim.md the text between `<!-- made: NAME -->` and `<!-- end -->` is
written: the rules of tolerance, and the limits.
"""

from __future__ import annotations

import datetime as dt
import difflib
import enum
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
import events_page
import metrics_page
from pydantic import BaseModel, BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from idsync.cli.main import cli
from idsync.config import LIVE, Config, restart_tables
from idsync.errors import EXIT_CODES
from idsync.scim import parse, provider, sql, tolerance
from idsync.scim.documents import LONGEST
from idsync.store.directory import PENDING_FOR
from idsync.web.auth import MAX_TOKEN
from idsync.web.limits import LARGE_BODIES, LARGE_BODY, SERVING, WAITING
from idsync.web.scim import BODY_SECONDS
from idsync.web.scim_core import MAX_WORK
from idsync.web.scim_storage import SCAN
from idsync.web.servers import HEAD, HEAD_SECONDS
from idsync.words import duration

ROOT = Path(__file__).resolve().parent.parent
MADE = "<!-- Written by tools/reference.py; change the code or config.example.toml, then run it again. -->"

# -- the configuration ----------------------------------------------------------------------------------------------

ENVIRONMENT_ONLY = {
    "store.password": "The password itself, only as `IDSYNC_STORE__PASSWORD`; it goes before `password_file`.",
    "routero.admin_key": "The admin key itself, only as `IDSYNC_ROUTERO__ADMIN_KEY`; it goes before `admin_key_file`.",
    "alerts.slack_webhook": "The webhook itself, only as `IDSYNC_ALERTS__SLACK_WEBHOOK`, instead of its file.",
    "scim.sources.token": (
        "A token itself, only as `IDSYNC_SCIM__SOURCES__<NAME>__TOKEN`; `token_file` goes before it when both are set."
    ),
    "sources.okta.private_key": (
        "The private key itself, only as `IDSYNC_SOURCES__OKTA__<NAME>__PRIVATE_KEY`, instead of its file."
    ),
    "sources.okta.api_token": "The token itself, only as `IDSYNC_SOURCES__OKTA__<NAME>__API_TOKEN`, instead of its file.",
    "sources.graph.client_secret": (
        "The secret itself, only as `IDSYNC_SOURCES__GRAPH__<NAME>__CLIENT_SECRET`, instead of its file."
    ),
    "sinks.token": "The token itself, only as `IDSYNC_SINKS__<NAME>__TOKEN`, instead of its file.",
    "sinks.secret_id": "The secret id itself, only as `IDSYNC_SINKS__<NAME>__SECRET_ID`, instead of its file.",
}
"""Secrets that must not stand in a file, and so not in config.example.toml either."""

DEFAULT = re.compile(r"Default: ([^.]+)\.")
SAID_ELSEWHERE = re.compile(r"\s*(Required|No default|Default: [^.]+)\.")
"""What a comment says of the default has a column of its own in the table."""

CONFIGURATION = """# Configuration

One TOML file: the one given with `-c`, else the one `IDSYNC_CONFIG` names, else `./config.toml`, else
`/etc/idsync/config.toml`. The environment goes before the file, the file before the defaults.

- A key in the environment: `IDSYNC_ROUTERO__BASE_URL` is `base_url` in `[routero]`. A value that begins with `[` is
  read as a TOML list: `IDSYNC_SERVER__TRUSTED_PROXIES='["10.0.0.0/8"]'`.
- A key of a list entry: by the entry's name, with `_` for `-`, and the entry must be in the file:
  `IDSYNC_TEAMS__DATA_SCIENCE__MAX_BUDGET`. The name is `name` for sources, sinks and receivers, `alias` for teams
  and their keys, `role` for roles.
- Secrets stand in files that the configuration names, or in the environment; in the file itself they are an error. A
  setting that ends in `_file` may begin with `${CREDENTIALS_DIRECTORY}/`, where systemd's `LoadCredential=` puts them.
- An unknown key is an error. All errors are told at once, each with its path, with exit code 2.
- `idsync config check` reads the file only; `idsync config check --start` also asks whether secrets can be read, a
  source is there and sinks are ready. `idsync config show` prints every value with where it came from, secrets masked.
- SIGHUP (`systemctl reload idsync`) lets a running daemon take over: LIVE. All or nothing: a file that is wrong
  changes nothing, and the log event `config.refused` says why. Secrets in files are read again as well.
- Other tables count after a restart: RESTART; a reload names what has changed there (`config.needs_restart`).
- What a change alone would take from people waits as a [hold](runbooks.md#a-hold-fired).

[config.example.toml](../config.example.toml) has every key below, with the same words.
"""


@dataclass(frozen=True)
class Setting:
    path: str
    kind: str
    default: str
    about: str


@dataclass(frozen=True)
class Section:
    """One TOML table; `header` as it is written in the file."""

    header: str
    about: str
    settings: tuple[Setting, ...]


def comments(example: str) -> dict[str, str]:
    """Return what config.example.toml says first above each table and key, by its path without entry names."""
    told: dict[str, str] = {}
    table, said = "", list[str]()
    for line in example.splitlines():
        text = line.strip()
        if text.startswith("# ") or text == "#":
            said.append(text.removeprefix("#").strip())
            continue
        text = text.removeprefix("#")
        if text.startswith("["):
            table = text.strip("[]")
            told.setdefault(table, " ".join(said))
        elif "=" in text:
            told.setdefault(f"{table}.{text.partition('=')[0].strip()}", " ".join(said))
        said = []
    return told


def sections(model: type[BaseModel], told: dict[str, str], path: str = "") -> Iterator[Section]:
    """Walk the models: one section a table, in the order of the code."""
    for name, field in model.model_fields.items():
        here = f"{path}.{name}" if path else name
        table, listed = table_of(field.annotation)
        if table is None:
            continue
        plain = tuple(
            setting(f"{here}.{key}", found, told)
            for key, found in table.model_fields.items()
            if table_of(found.annotation)[0] is None
        )
        if plain:
            yield Section(f"[[{here}]]" if listed else f"[{here}]", told.get(here, ""), plain)
        yield from sections(table, told, here)


def table_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the table a field holds and whether it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and arguments:
        return table_of(arguments[0])[0], True
    return None, False


def setting(path: str, field: FieldInfo, told: dict[str, str]) -> Setting:
    about = ENVIRONMENT_ONLY.get(path) or told.get(path)
    if not about:
        msg = f"config.example.toml does not explain {path}"
        raise SystemExit(msg)
    named = DEFAULT.search(about)
    default = named.group(1) if named and named.group(1) else written(field, field.default)
    if field.is_required() or "Required." in about:
        default = "required"
    return Setting(path, kind_of(field.annotation, field.metadata), default, SAID_ELSEWHERE.sub("", about).strip())


def kind_of(annotation: Any, metadata: typing.Sequence[Any] = ()) -> str:
    """Name the kind of a value in words."""
    if any(isinstance(entry, BeforeValidator) for entry in metadata):
        return "duration"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind_of(arguments[0], arguments[1:])
    if origin in (types.UnionType, typing.Union):
        return kind_of(next(entry for entry in arguments if entry is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{toml(entry)}`" for entry in arguments)
    if origin is tuple:
        return f"list of {kind_of(arguments[0])}s"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation.__name__.lower()
    names: dict[Any, str] = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text"}
    names |= {dt.date: "date", SecretStr: "secret"}
    return names[annotation]


def written(field: FieldInfo, value: Any) -> str:
    if value is None or value == "" or value == {}:
        return "none"
    if kind_of(field.annotation, field.metadata) == "duration":
        return f"`{toml(duration(value))}`"
    return f"`{toml(value)}`"


def toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def configuration() -> str:
    """Return docs/configuration.md."""
    told = comments((ROOT / "config.example.toml").read_text("utf-8"))
    tables = {"LIVE": LIVE, "RESTART": restart_tables()}
    lines = [MADE, "", CONFIGURATION]
    for word, names in tables.items():
        lines[-1] = lines[-1].replace(word, ", ".join(f"`{name}`" for name in names))
    for section in sections(Config, told):
        lines += [f"## {section.header}", ""]
        lines += [section.about, ""] if section.about else []
        lines += ["| key | kind | default | what it is for |", "|---|---|---|---|"]
        for entry in section.settings:
            key = entry.path.rpartition(".")[2]
            lines.append(f"| `{key}` | {cell(entry.kind)} | {cell(entry.default)} | {cell(entry.about)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# -- the command line -----------------------------------------------------------------------------------------------

COMMAND_LINE = """# Command line

`idsync` is `python -m idsync`. Data go to stdout, logs to stderr. Commands that only read open the store beside a
running daemon. Commands that write ask the daemon through its socket; without one they take the store's lock and do
the work themselves. A secret is never an argument.

| exit code | meaning |
|---|---|
CODES
"""


def commands(command: click.Command, parent: click.Context | None, name: str) -> Iterator[str]:
    """Yield the Markdown of a command and of those below it."""
    context = click.Context(command, info_name=name, parent=parent)
    yield f"{'##' if parent is None or parent.parent is None else '###'} {context.command_path}"
    yield ""
    yield f"```\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```"
    yield ""
    yield from told(command)
    yield from options(command, context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from commands(found, context, below)


def told(command: click.Command) -> Iterator[str]:
    for paragraph in (command.help or "").split("\n\n"):
        yield " ".join(paragraph.split())
        yield ""


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    rows = [record for record in records if record is not None]
    if rows:
        yield "| option | what it does |"
        yield "|---|---|"
        yield from (f"| `{cell(names)}` | {cell(' '.join(about.split()))} |" for names, about in rows)
        yield ""


def command_line() -> str:
    """Return docs/cli.md."""
    codes = "\n".join(f"| {code} | {cell(meaning)} |" for code, meaning in EXIT_CODES.items())
    return "\n".join([MADE, "", COMMAND_LINE.replace("CODES", codes), *commands(cli, None, "idsync")]).rstrip() + "\n"


# -- the SCIM endpoint ------------------------------------------------------------------------------------------------

PART = re.compile(r"(<!-- made: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rules(listed: Iterable[tolerance.Rule[Any]]) -> str:
    """Return rules of tolerance as a table, in the order in which they run."""
    rows = [f"| {number} | {cell(rule.name)} | {cell(rule.who)} |" for number, rule in enumerate(listed, 1)]
    return "\n".join(["| | what is forgiven | who needs it |", "|---|---|---|", *rows])


def limits() -> str:
    """Return every bound on a request as a table."""
    rows = [
        ("body of a request, `/Bulk` included", f"{provider.MAX_BODY // 1024} KiB", "413"),
        ("time for a body to arrive", f"{BODY_SECONDS:g} s", "408"),
        ("requests of one source that are served at a time", f"{SERVING}", "the others wait"),
        ("requests of one source that wait", f"{WAITING:,}", "429"),
        (
            f"bodies of one source over {LARGE_BODY // 1024} KiB that are read at a time",
            f"{LARGE_BODIES}",
            "the others wait, unread",
        ),
        ("head of a request", f"{HEAD // 1024} KiB, {HEAD_SECONDS:g} s", "the connection is closed"),
        ("operations in one PATCH or `/Bulk`", f"{provider.MAX_OPERATIONS:,}", "413"),
        ("members named in one request", f"{provider.MAX_MEMBERS:,}", "413"),
        (
            "name, address, `externalId` or member id that a record is found by",
            f"{LONGEST:,} bytes",
            "400 `invalidValue`",
        ),
        ("members of a group that a PATCH answers with", f"{provider.SMALL_GROUP}", "204 without a body"),
        ("resources on a page", f"{provider.MAX_PAGE}; {provider.PAGE} without `count`", "the page is shorter"),
        ("age of a cursor", f"{provider.CURSOR_SECONDS // 3600} h", "400 `expiredCursor`"),
        ("operations that look at every member, times members", f"{MAX_WORK:,}", "413"),
        (
            "length of `attributes`, `excludedAttributes`, `sortBy`",
            f"{sql.MAX_LENGTH:,} characters",
            "400 `invalidValue`",
        ),
        ("length of a filter or PATCH path", f"{sql.MAX_LENGTH:,} characters", "400 `invalidFilter`, `invalidPath`"),
        ("parentheses and brackets in it, one in the other", f"{sql.MAX_DEPTH}", "the same"),
        ("terms joined by `and`, `or`", f"{sql.MAX_TERMS}", "the same"),
        ("records that are looked at one by one", f"{SCAN}", "400 `tooMany`"),
        ("nesting of JSON", f"{parse.MAX_DEPTH} levels", "400 `invalidSyntax`"),
        ("integers in JSON", "63 bits", "400 `invalidSyntax`"),
        ("time an unknown member id waits for its user", f"{PENDING_FOR / 3600:g} h", "it is forgotten"),
        ("length of a token", f"{MAX_TOKEN} bytes", "401"),
    ]
    return "\n".join(["| what | limit | beyond it |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


PARTS: Mapping[str, Callable[[], str]] = {
    "patch-rules": lambda: rules(tolerance.PATCH_RULES),
    "resource-rules": lambda: rules(tolerance.RESOURCE_RULES),
    "filter-rules": lambda: rules(tolerance.FILTER_RULES),
    "limits": limits,
}


def scim(page: str) -> str:
    """Return docs/scim.md with its made parts as the code has them."""
    found = sorted(match["name"] for match in PART.finditer(page))
    if found != sorted(PARTS):
        msg = f"docs/scim.md has the parts {found}; wanted, each once: {sorted(PARTS)}"
        raise SystemExit(msg)
    return PART.sub(lambda match: f"{match[1]}{PARTS[match['name']]()}\n{match[3]}", page)


# -- writing --------------------------------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    endpoint = ROOT / "docs/scim.md"
    pages = {
        ROOT / "docs/configuration.md": configuration(),
        ROOT / "docs/cli.md": command_line(),
        ROOT / "docs/metrics.md": metrics_page.page(MADE),
        ROOT / "docs/exit-codes-and-events.md": events_page.page(MADE),
        endpoint: scim(endpoint.read_text("utf-8")),
    }
    if arguments == ["--check"]:
        return max(differs(path, text) for path, text in pages.items())
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return 0


def differs(path: Path, wanted: str) -> int:
    """Print how a page differs from what the code says; return 1 when it does."""
    have = path.read_text("utf-8") if path.exists() else ""
    lines = difflib.unified_diff(have.splitlines(), wanted.splitlines(), path.name, "the code", lineterm="")
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return int(have != wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
