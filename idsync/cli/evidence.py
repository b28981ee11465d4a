"""`idsync evidence`."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idsync.cli.client import loaded, reading, say, show
from idsync.errors import IdsyncError, UsageError
from idsync.words import count

if TYPE_CHECKING:
    from idsync.evidence.pack import Pack

DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--from", "first", type=DAY, required=True, metavar="DATE", help="First day (UTC), like 2026-01-01.")
@click.option("--to", "last", type=DAY, required=True, metavar="DATE", help="Last day (UTC), included.")
@click.option("--format", "form", type=click.Choice(["html", "json", "csv", "all"]), default="html", show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write files there, not to stdout.",
)
@click.option(
    "--threshold", default="5m", show_default=True, help="In which access has to end; longer is an exception."
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.pass_context
def evidence(
    ctx: click.Context,
    first: datetime,
    last: datetime,
    form: str,
    output: Path | None,
    threshold: str,
    as_json: bool,
) -> int:
    """Write what an auditor asks for: who left in a period, when their access ended, what proves it, who decided.

    Reads the store alone, beside a daemon or without one; the same store gives the same files. Exit code 5 when
    somebody's access is not proven to have ended, 1 when the audit trail is broken.
    """
    from idsync.clock import parse_duration
    from idsync.evidence.pack import Asked, gather

    form = "json" if as_json else form
    if last < first:
        raise UsageError("--from is after --to")
    if form in ("csv", "all") and output is None:
        raise UsageError(f"--format {form} writes several files; say where with --output DIR")
    try:
        allowed = parse_duration(threshold)
    except ValueError as error:
        raise UsageError(f"--threshold: {error}") from None
    found = loaded(ctx)
    configuration = hashlib.sha256(found.path.read_bytes()).hexdigest() if found.path else None
    since, before = first.replace(tzinfo=UTC).timestamp(), last.replace(tzinfo=UTC).timestamp() + 86400.0
    asked = Asked(since, before, allowed, (f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"), configuration)
    with reading(found.config) as db:
        pack = gather(db, asked)
    if output is not None:
        _write(output, _files(pack, form))
        _tell(pack, output)
    elif form == "json":
        show(pack.as_json())
    else:
        click.echo(_files(pack, "html")["evidence.html"], nl=False)
    return 5 if pack.unproven else 0 if pack.chain.whole else 1


def _files(pack: Pack, form: str) -> dict[str, str]:
    """Return the files by name."""
    from idsync.evidence.page import as_html
    from idsync.evidence.sheets import as_csv

    files: dict[str, str] = {}
    if form in ("html", "all"):
        files["evidence.html"] = as_html(pack)
    if form in ("json", "all"):
        files["evidence.json"] = json.dumps(pack.as_json(), indent=2) + "\n"
    if form in ("csv", "all"):
        files |= {f"{sheet.name}.csv": as_csv(sheet) for sheet in pack.sheets}
        files["summary.json"] = json.dumps(pack.summary, indent=2) + "\n"
    return files


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write the files, readable by their owner alone, and beside them their SHA-256."""
    sums = ""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in sorted(files.items()):
            raw = content.encode("utf-8", "backslashreplace")
            sums += f"{hashlib.sha256(raw).hexdigest()}  {name}\n"
            _put(folder / name, raw)
        _put(folder / "SHA256SUMS", sums.encode())
    except OSError as error:
        msg = f"cannot write to {folder}: {error.strerror}"
        raise IdsyncError(msg) from error


def _put(file: Path, raw: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(raw)


def _tell(pack: Pack, output: Path) -> None:
    people, audit = pack.summary["population"], pack.summary["audit"]
    say(
        f"{output}: {count(people['leavers'], 'leaver')}, {count(people['suspensions'], 'suspension')}, {people['verified']} verified"
    )
    for what, number in people["exceptions"].items():
        say(f"  exception {what}: {number}")
    if pack.chain.whole:
        say(f"audit trail whole: {count(audit['entries'], 'entry', 'entries')}, head {audit['head']}")
    else:
        say(f"AUDIT TRAIL BROKEN at entry {audit['breaks_at']}: idsync audit verify; compare with a backup")
