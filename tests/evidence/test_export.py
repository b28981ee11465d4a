"""The trail away from the store: exported by the real command, and checked where there is no store and no configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.stores import url_of

from idsync.audit import line_of
from idsync.cli.main import cli
from idsync.errors import IdsyncError
from idsync.store import journal
from idsync.store.db import Db
from idsync.store.opening import store_of

DAY = 86400.0
START = 1_767_225_600.0
"""2026-01-01."""
ENTRIES = 6


@dataclass
class Export:
    folder: Path
    lines: list[str]
    head: str

    def verify(self, lines: list[str], *words: str) -> tuple[int, str]:
        """Check a file of these lines, in this process; return the exit code and what was said."""
        (self.folder / "trail").write_text("".join(f"{line}\n" for line in lines))
        line = ["audit", "verify", "--file", str(self.folder / "trail"), *words]
        done = CliRunner().invoke(cli, line, standalone_mode=False)
        if isinstance(done.exception, IdsyncError):
            return done.exception.exit_code, str(done.exception)
        assert done.exception is None, done.exception
        return done.return_value, done.output

    def idsync(self, *words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "idsync", *words]
        return subprocess.run(line, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("export")
    store = store_of(url_of(folder / "idsync.db"))
    store.open()

    def fill(db: Db) -> None:
        for number in range(ENTRIES):
            detail = {"n": number, "name": "Ä\n\u2028", "seconds": 0.1 + number}
            journal.append(
                db, at=START + number * DAY + 0.25, actor="okta/t", action="a", subject=f"s{number}", detail=detail
            )

    store.write(fill)
    store.close()
    (folder / "idsync.toml").write_text(
        f'[store]\nurl = "{url_of(folder / "idsync.db")}"\n[routero]\nbase_url = "http://127.0.0.1:9"\n'
    )
    made = Export(folder, [], "")
    done = made.idsync("-c", "idsync.toml", "audit", "export", "--output", "all.jsonl")
    assert done.returncode == 0, done.stderr
    made.lines, made.head = (folder / "all.jsonl").read_text().splitlines(), done.stderr.split()[-1]
    assert ((folder / "all.jsonl").stat().st_mode & 0o777, len(made.lines)) == (0o600, ENTRIES)
    return made


def test_the_whole_trail_is_checked_without_the_store(exported: Export) -> None:
    """The real command, in a folder without a configuration."""
    done = exported.idsync("audit", "verify", "--file", "all.jsonl", "--head", exported.head, "--entries", str(ENTRIES))
    assert (done.returncode, f"{ENTRIES} entries, chain whole; head {exported.head}" in done.stdout) == (0, True)


def altered(lines: list[str]) -> list[str]:
    return [line.replace('"s2"', '"eve"') for line in lines]


FORGED: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "altered": (altered, "breaks at entry 3"),
    "removed": (lambda lines: [*lines[:2], *lines[3:]], "breaks at entry 4"),
    "swapped": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "breaks at entry 3"),
    "cut off at the end": (lambda lines: lines[:-1], "does not hold what was noted"),
    "cut off in a line": (lambda lines: [*lines[:-1], lines[-1][:-9]], "line 6 is no entry"),
    "no entry": (lambda lines: ["{}", *lines], "line 1 is no entry"),
    "nested without end": (lambda lines: ["[" * 100_000, *lines], "line 1 is no entry"),
    "empty": (lambda _: [], "does not hold what was noted"),
}


@pytest.mark.parametrize(("forge", "said"), FORGED.values(), ids=FORGED)
def test_what_was_changed_in_the_file_is_found(
    exported: Export, forge: Callable[[list[str]], list[str]], said: str
) -> None:
    code, told = exported.verify(forge(exported.lines), "--head", exported.head)
    assert (code, said in told) == (1, True), told


def test_some_days_are_a_part_of_the_trail_and_say_so(exported: Export) -> None:
    words = ("-c", "idsync.toml", "audit", "export", "--from", "2026-01-03", "--to", "2026-01-04")
    part = exported.idsync(*words).stdout.splitlines()
    assert part == exported.lines[2:4]
    code, told = exported.verify(part)
    assert (code, "from entry 3" in told) == (0, True)
    assert exported.verify(altered(part))[0] == 1
    view = json.loads(exported.verify(part, "--json")[1])
    assert (view["first"], view["entries"], view["whole"]) == (3, 4, True)


def test_an_export_never_overwrites(exported: Export) -> None:
    done = exported.idsync("-c", "idsync.toml", "audit", "export", "--output", "all.jsonl")
    assert (done.returncode, "never overwrites" in done.stderr) == (2, True)
    assert (exported.folder / "all.jsonl").read_text().splitlines() == exported.lines


def test_a_line_is_the_entry_as_it_was_sealed(exported: Export) -> None:
    store = store_of(url_of(exported.folder / "idsync.db"))
    store.open()
    try:
        assert [line_of(event) for event in journal.events(store.reader())] == exported.lines
    finally:
        store.close()
