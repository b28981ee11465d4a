"""A thousand ways to forge the audit trail, each found by `idsync audit verify` with a head that was noted before."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from sqlite_utils import Database

from idsync.audit import GENESIS, detail_text, digest
from idsync.cli.main import cli
from idsync.clock import SystemClock
from idsync.control import Control
from idsync.intake import Intake
from idsync.store import journal
from idsync.store.db import Db
from idsync.store.sqlite import GUARDS

from .site import Site

pytestmark = pytest.mark.needs_file("alters it and puts it back a thousand times")

COUNT = 1000
ENTRIES = 30
TEXTS = ("actor", "action", "subject", "prev", "hash")


Tampering = Callable[[sqlite3.Connection, random.Random], None]


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """The command runs in this process and sets logging up for the stream it is given, which is closed afterwards."""
    yield
    structlog.reset_defaults()


def other_letter(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice([c for c in "abcxyz0189" if c != text[at]]) + text[at + 1 :]


def alter_text(connection: sqlite3.Connection, chance: random.Random) -> None:
    column, seq = chance.choice(TEXTS), chance.randint(1, ENTRIES)
    entries = Database(connection).table("audit")
    text = entries.get(seq)[column]
    entries.update(seq, {column: chance.choice([*(other_letter(text, chance) for _ in "ab"), "", f"{text} "])})


def alter_type(connection: sqlite3.Connection, chance: random.Random) -> None:
    """SQLite keeps bytes in a column of texts."""
    column, seq = chance.choice(TEXTS), chance.randint(1, ENTRIES)
    entries = Database(connection).table("audit")
    entries.update(seq, {column: entries.get(seq)[column].encode()})


def alter_time(connection: sqlite3.Connection, chance: random.Random) -> None:
    by = chance.choice([-86400.0, -1.0, 0.001, 3600.0])
    connection.execute("UPDATE audit SET at = at + ? WHERE seq = ?", (by, chance.randint(1, ENTRIES)))


def alter_detail(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq = chance.randint(1, ENTRIES)
    [(text,)] = connection.execute("SELECT detail FROM audit WHERE seq = ?", (seq,))
    detail = json.loads(text)
    change: dict[str, Any] = {"id": "u-x", "changed": [], "n": -1, "more": 1}
    key = chance.choice(list(change))
    detail[key] = change[key]
    written = chance.choice([detail_text(detail), text[1:], "", "null"])
    connection.execute("UPDATE audit SET detail = ? WHERE seq = ?", (written, seq))


def alter_number(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq, to = chance.randint(1, ENTRIES), chance.choice([-1, 0, ENTRIES + 1, ENTRIES + 99])
    connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (to, seq))


def remove(connection: sqlite3.Connection, chance: random.Random) -> None:
    first = chance.randint(1, ENTRIES - 1)
    connection.execute("DELETE FROM audit WHERE seq BETWEEN ? AND ?", (first, chance.randint(first, ENTRIES - 1)))


def remove_and_renumber(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq = chance.randint(1, ENTRIES - 1)
    connection.execute("DELETE FROM audit WHERE seq = ?", (seq,))
    for later in range(seq + 1, ENTRIES + 1):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (later - 1, later))


def reorder(connection: sqlite3.Connection, chance: random.Random) -> None:
    one, other = chance.sample(range(1, ENTRIES + 1), 2)
    for before, after in ((one, -1), (other, one), (-1, other)):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (after, before))


def insert(connection: sqlite3.Connection, chance: random.Random) -> None:
    seq = chance.randint(1, ENTRIES + 1)
    for later in range(ENTRIES, seq - 1, -1):
        connection.execute("UPDATE audit SET seq = ? WHERE seq = ?", (later + 1, later))
    there = [other for other in range(1, ENTRIES + 2) if other != seq]
    copied = "INSERT INTO audit SELECT ?, at, actor, action, subject, detail, prev, hash FROM audit WHERE seq = ?"
    assert connection.execute(copied, (seq, chance.choice(there))).rowcount == 1


def cut_off_the_end(connection: sqlite3.Connection, chance: random.Random) -> None:
    connection.execute("DELETE FROM audit WHERE seq > ?", (chance.randint(0, ENTRIES - 1),))


def seal_anew(connection: sqlite3.Connection, chance: random.Random) -> None:
    """Change one entry, or leave one out, and seal all that follows, as somebody does who has read the code."""
    seq = chance.randint(1, ENTRIES)
    if chance.random() < 0.5:
        connection.execute("UPDATE audit SET subject = 'eve' WHERE seq = ?", (seq,))
    else:
        remove_and_renumber(connection, chance)
    prev = GENESIS
    for number, at, actor, action, subject, detail in connection.execute(
        "SELECT seq, at, actor, action, subject, detail FROM audit ORDER BY seq"
    ).fetchall():
        seal = digest(prev, number, at, actor, action, subject, detail)
        connection.execute("UPDATE audit SET prev = ?, hash = ? WHERE seq = ?", (prev, seal, number))
        prev = seal


TAMPERINGS: list[Tampering] = [
    alter_text,
    alter_type,
    alter_time,
    alter_detail,
    alter_number,
    remove,
    remove_and_renumber,
    reorder,
    insert,
    cut_off_the_end,
    seal_anew,
]


@dataclass
class Trail:
    """A store with a whole trail and no guards, and the head that was noted of it."""

    site: Site
    pristine: bytes
    head: str

    def verify(self, *words: str) -> int:
        """Run the command in this process, all of it."""
        line = ["-c", str(self.site.config), "audit", "verify", *words]
        code = cli.main(line, standalone_mode=False)
        assert isinstance(code, int)
        return code

    def tampered(self, how: Tampering, chance: random.Random) -> None:
        self.site.store.write_bytes(self.pristine)
        with closing(sqlite3.connect(self.site.store, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            how(connection, chance)
            connection.execute("COMMIT")


@pytest.fixture
def trail(site: Site) -> Trail:
    def fill(db: Db, _: Intake, __: Control) -> str:
        for number in range(ENTRIES):
            journal.append(
                db,
                at=SystemClock().now() + number / 3,
                actor="okta/token-1",
                action="user.changed",
                subject=f"user{number}@example.com",
                detail={"id": f"u-{number}", "changed": ["active"], "n": number, "ümlaut": None},
            )
        return journal.head(db)[1]

    head = site.fill(fill)
    with closing(sqlite3.connect(site.store, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for guard in GUARDS:
            connection.execute(f"DROP TRIGGER {guard}")
    return Trail(site, site.store.read_bytes(), head)


def test_a_thousand_random_tamperings_are_all_found(trail: Trail, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(20260101)
    noted = ("--head", trail.head, "--entries", str(ENTRIES))
    assert trail.verify(*noted) == 0
    missed = []
    for number in range(COUNT):
        how = TAMPERINGS[number % len(TAMPERINGS)]
        trail.tampered(how, chance)
        if trail.verify(*noted[: chance.choice([2, 4])]) != 1:
            missed.append(f"{number}: {how.__name__}")
    assert missed == []
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    trail.site.store.write_bytes(trail.pristine)
    assert trail.verify(*noted) == 0


@pytest.mark.parametrize("how", [cut_off_the_end, seal_anew])
def test_what_the_chain_alone_cannot_show_shows_against_a_noted_head(trail: Trail, how: Tampering) -> None:
    trail.tampered(how, random.Random(7))
    done = trail.site.run("audit", "verify", "--head", trail.head, "--entries", str(ENTRIES))
    assert (done.returncode, done.stderr) == (1, "")
    assert "fits together, but does not hold what was noted" in done.stdout
    assert "its end was cut off, or everything was sealed anew" in done.stdout
    told = trail.site.run("audit", "verify", "--head", trail.head, "--json")
    assert told.returncode == 1
    shown = json.loads(told.stdout)
    assert (shown["whole"], shown["breaks_at"], shown["noted_head_found"]) == (False, None, False)
    assert trail.site.run("audit", "verify").returncode == 0


def test_a_trail_that_has_grown_still_holds_an_earlier_head(trail: Trail) -> None:
    trail.site.token()
    for words in (
        ("--head", trail.head),
        ("--head", trail.head.upper(), "--entries", str(ENTRIES)),
        ("--entries", str(ENTRIES)),
        ("--head", GENESIS, "--entries", "0"),
    ):
        done = trail.site.run("audit", "verify", *words)
        assert (done.returncode, done.stdout.startswith(f"{ENTRIES + 1} entries, chain whole; head ")) == (0, True)
        assert done.stdout.endswith("; holds what was noted\n")
    for words in (("--head", trail.head, "--entries", str(ENTRIES - 1)), ("--entries", str(ENTRIES + 2))):
        assert trail.site.run("audit", "verify", *words).returncode == 1


@pytest.mark.parametrize("words", [("--head", "abc"), ("--head", "x" * 64), ("--entries", "-1"), ("--entries", "x")])
def test_what_is_no_head_is_wrong_usage(site: Site, words: tuple[str, ...]) -> None:
    assert site.run("audit", "verify", *words).returncode == 2
