"""The trail's beginning taken out by the real command: only what a file was proven to hold, and provable ever after."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.editor import REFUSED, edit
from support.settings import write_settings
from support.stores import put_back, url_of

from idsync.cli.main import cli
from idsync.clock import SystemClock
from idsync.errors import IdsyncError
from idsync.store import journal, ledger
from idsync.store.db import Db
from idsync.store.opening import store_of

DAY = 86400.0
START = 1_767_225_600.0
"""2026-01-01."""
ENTRIES, OLD = 700, 650
"""The first `OLD` entries, more than one transaction takes, are of the first five days."""
BEFORE = ("--before", "2026-01-06")


@dataclass
class Place:
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "trail"

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command in this process; return its exit code, and what it said."""
        line = ["-c", str(self.folder / "config.toml"), *words]
        done = CliRunner().invoke(cli, line, standalone_mode=False)
        if isinstance(done.exception, IdsyncError):
            return done.exception.exit_code, str(done.exception)
        assert done.exception is None, done.exception
        return done.return_value, done.output

    def prune(self, *words: str) -> tuple[int, str]:
        return self.run("audit", "prune", *(words or BEFORE), "--exported", str(self.file))

    def verify(self, *words: str) -> dict[str, Any]:
        code, said = self.run("audit", "verify", "--json", *words)
        told: dict[str, Any] = json.loads(said)
        assert code == (0 if told["whole"] else 1)
        return told

    def write(self, work: Callable[[Db], Any]) -> None:
        store = store_of(url_of(self.folder / "idsync.db"))
        store.open()
        store.write(work)
        store.close()

    def edit(self, *statements: str) -> None:
        """Change the file as somebody with an editor would, who drops the guards first."""
        edit(url_of(self.folder / "idsync.db"), *statements)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a trail, and the export of its first days."""
    place = Place(tmp_path_factory.mktemp("pattern"))
    write_settings(place.folder, "http://127.0.0.1:1", retention={"audit": "30d"})

    def fill(db: Db) -> None:
        for number in range(1, ENTRIES + 1):
            at = (
                START
                + (number % 5 if number <= OLD else 10) * DAY / 10
                + (number * DAY / 200 if number <= OLD else DAY * 9)
            )
            journal.append(db, at=at, actor="okta", action="a", subject=f"Ä{number}", detail={"n": number})

    place.write(fill)
    done = place.run("audit", "export", "--to", "2026-01-05", "--output", str(place.file))
    assert done[0] == 0, done
    return place.folder


@pytest.fixture
def place(pattern: Path, tmp_path: Path) -> Place:
    before, here = pattern / "idsync.db", tmp_path / "here" / "idsync.db"
    shutil.copytree(pattern, here.parent)
    put_back(before, here)
    settings = here.parent / "config.toml"
    text = settings.read_text().replace(url_of(before), url_of(here))
    settings.write_text(text.replace(str(pattern), str(here.parent)))
    return Place(tmp_path / "here")


def test_what_is_proven_to_be_exported_goes_and_all_stays_provable(place: Place) -> None:
    whole = place.verify()
    exported = len(place.file.read_text().splitlines())
    code, said = place.prune(*BEFORE, "--dry-run")
    assert (code, f"{exported} would go" in said) == (3, True)
    assert place.verify() == whole
    assert place.prune()[0] == 0
    rest = place.verify()
    assert (rest["whole"], rest["first"], rest["entries"]) == (True, exported + 1, ENTRIES + 1)
    assert rest["checkpoint"]["entries"] == exported
    both = place.verify("--exported", str(place.file), "--entries", str(ENTRIES), "--head", whole["head"])
    assert (both["whole"], both["first"], both["noted_head_found"]) == (True, 1, True)
    assert place.run("audit", "verify", "--file", str(place.file))[0] == 0
    assert json.loads(place.run("audit", "tail", "-n", "1", "--json")[1])["action"] == "audit.pruned"
    assert place.prune() == (0, place.prune()[1]), "and once more changes nothing"
    assert place.verify() == rest
    later = place.folder / "later"
    assert place.run("audit", "export", "--output", str(later))[0] == 0
    assert place.verify("--exported", str(place.file))["whole"]
    assert json.loads(later.read_text().splitlines()[0])["seq"] == exported + 1


def drop_line(lines: list[str]) -> list[str]:
    return [*lines[:200], *lines[201:]]


def alter(lines: list[str]) -> list[str]:
    return [*lines[:200], lines[200].replace('"actor":"okta"', '"actor":"nobody"'), *lines[201:]]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (drop_line, "differs at entry 201"),
        (alter, "differs at entry 201"),
        (lambda lines: lines[:-1], "differs at entry"),
        (lambda lines: [*lines, lines[-1]], "goes on after entry"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "no entry"),
        (lambda lines: [], "differs at entry 1"),
    ],
    ids=["missing", "altered", "short", "long", "cut off", "empty"],
)
def test_a_file_that_holds_anything_else_takes_nothing_out(
    place: Place, how: Callable[[list[str]], list[str]], says: str
) -> None:
    before = place.verify()
    lines = place.file.read_text().splitlines()
    place.file.write_text("".join(f"{line}\n" for line in how(lines)))
    code, said = place.prune()
    assert (code, says in said) == (1, True), said
    assert place.verify() == before


def hold(db: Db) -> None:
    ledger.join_hold(db, "test", "waits", START + 2 * DAY)


@pytest.mark.parametrize(
    ("change", "before", "says"),
    [
        (lambda place: place.write(hold), "2026-01-06", "--before 2026-01-03 at most"),
        (lambda place: None, f"{SystemClock().now():.0f}", "retention.audit keeps what is younger"),
        (lambda place: settle(place, "30d", ""), "2026-01-06", "retention.audit is not set"),
    ],
    ids=["open hold", "too young", "not set"],
)
def test_what_is_open_young_or_for_ever_stays(
    place: Place, change: Callable[[Place], None], before: str, says: str
) -> None:
    from idsync.clock import rfc3339

    change(place)
    day = before if "-" in before else rfc3339(float(before))[:10]
    code, said = place.prune("--before", day)
    assert (code, says in said) == (2, True), said
    assert place.verify()["first"] == 1


def settle(place: Place, old: str, new: str) -> None:
    settings = place.folder / "config.toml"
    settings.write_text(settings.read_text().replace(f'audit = "{old}"', f'audit = "{new}"'))


@pytest.mark.parametrize(("entry", "code"), [(100, 1), (ENTRIES, 0)], ids=["exported", "kept"])
def test_an_altered_entry_is_found_before_and_after(place: Place, entry: int, code: int) -> None:
    """What differs from the file stays where it is; what is altered in the rest is found there afterwards."""
    place.edit(f"UPDATE audit SET actor = 'me' WHERE seq = {entry}")  # noqa: S608
    assert place.prune()[0] == code
    told = place.verify()
    assert (told["breaks_at"], told["first"] == 1) == (entry, bool(code))


def test_a_file_may_not_carry_the_mistake_either(place: Place) -> None:
    """The store and its export agree on an altered entry: the chain is what tells."""
    place.edit("UPDATE audit SET actor = 'me' WHERE seq = 100")
    place.file.unlink()
    assert place.run("audit", "export", "--to", "2026-01-05", "--output", str(place.file))[0] == 0
    code, said = place.prune()
    assert (code, "the chain breaks at entry 100" in said, place.verify()["first"]) == (1, True, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit WHERE seq = 651",
        "INSERT INTO audit_checkpoints SELECT 690, hash, 1, 'x', 1.0 FROM audit WHERE seq = 691",
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_checkpoints SET seq = 690",
    ],
)
def test_the_store_itself_refuses_more(place: Place, statement: str) -> None:
    place.prune()
    with pytest.raises(REFUSED):
        edit(url_of(place.folder / "idsync.db"), statement, guarded=True)
    assert place.verify()["whole"]


def test_a_checkpoint_that_nobody_made_is_seen(place: Place) -> None:
    """Somebody with an editor cuts off the beginning and leaves a checkpoint that fits: no entry speaks of it."""
    place.edit(
        "INSERT INTO audit_checkpoints SELECT seq, hash, seq, 'x', 1.0 FROM audit WHERE seq = 400",
        "DELETE FROM audit WHERE seq <= 400",
    )
    told = place.verify()
    assert (told["whole"], told["breaks_at"], told["checkpoint_sealed"]) == (False, None, False)
