"""What an auditor gets from the real command, over a store in which people really left at the stand-in gateway."""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click import BadParameter
from click.testing import CliRunner
from support.daemon import Done, idsync
from support.directory import mail
from support.gateway import Gateway
from support.home import Home
from support.settings import ADMIN_KEY, TOKEN, store_url, write_settings
from support.stores import url_of

from idsync.cli.main import cli
from idsync.errors import UsageError
from idsync.evidence.pack import Asked, gather
from idsync.sandbox.server import Options, Sandbox
from idsync.store import journal
from idsync.store.opening import read_only

FORMULA = "=cmd|' /C calc'!A0@corp.example"
TAG = "<script>alert(1)</script>@corp.example"
TODAY = datetime.now(UTC)
DAYS = ("--from", f"{TODAY - timedelta(days=1):%Y-%m-%d}", "--to", f"{TODAY + timedelta(days=1):%Y-%m-%d}")


@dataclass
class Past:
    """Leo left and is verified; a formula and a tag were over the guard: one waits, Ben was revoked by hand and restored."""

    settings: Path
    secrets: list[str]
    account: str

    def run(self, *words: str) -> Done:
        return idsync(self.settings, *words)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    folder = tmp_path_factory.mktemp("past")
    with Sandbox(Options(dialect="litellm")) as sandbox:
        gateway = Gateway(sandbox)
        settings = write_settings(folder, gateway.url, admin_key=gateway.admin_key, guard={"max_push_departures": 3})
        with Home(settings) as home:
            logins = ["leo", "ben", FORMULA, TAG]
            for login in logins:
                home.directory.hire(login, "Data")
            home.wait_until_quiet()
            keys = [gateway.key_of(home.account_of(login), "data") for login in logins]
            gateway.ready()
            home.offboard("leo")
            home.revoke("ben")
            home.wait_until_verified("ben")
            for login in (FORMULA, TAG, "late"):
                if login == "late":
                    home.directory.hire(login, "Data")
                    home.wait_until_quiet()
                home.directory.leave(login)
            home.wait_for("late", "held")
            home.wait_until_verified(FORMULA, TAG)
            home.write(lambda db: home.core.control.restore(db, mail("ben"), reason="a mistake", by="op"))
            home.wait_until_quiet()
            account = home.departure("leo").account_id
        assert account is not None
        yield Past(settings, [*(key.raw for key in keys), ADMIN_KEY, TOKEN], account)


@pytest.fixture(scope="module")
def told(past: Past) -> dict[str, Any]:
    done = past.run("evidence", *DAYS, "--format", "json")
    assert done.code == 0, done.err
    found: dict[str, Any] = done.json
    return found


def test_everybody_who_left_is_in_it_with_the_times_the_ledger_has(past: Past, told: dict[str, Any]) -> None:
    ledger = past.run("departures", "--json").json
    rows = {row["departure"]: row for row in told["leavers"]}
    assert rows.keys() == {one["id"] for one in ledger}
    for one in ledger:
        row, stages = rows[one["id"]], one["stages"]
        assert (row["user"], row["state"], row["told_at"]) == (one["user"], one["state"], stages["received"])
        for stage in ("fenced", "blocked", "access_ended", "deleted", "verified", "settled"):
            assert row[f"{stage}_at"] == stages.get(stage)
    leo = next(row for row in told["leavers"] if row["user"] == mail("leo"))
    assert (leo["gateway_user_id"], leo["keys_ended"], leo["teams_left"]) == (past.account, 1, 1)
    assert " gone: 0 keys, 0 teams listed" in leo["read_back"]


def test_what_deserves_a_look_is_named(told: dict[str, Any]) -> None:
    late = next(row for row in told["leavers"] if row["user"] == mail("late"))
    assert (late["state"], late["exceptions"], late["verified_at"]) == ("held", ["held", "fence_assumed"], None)
    assert late["access_ended_at"] is not None
    count = told["population"]
    assert (count["leavers"], count["verified"], count["exceptions"]["held"]) == (5, 4, 1)
    (hold,) = told["holds"]
    assert (hold["state"], hold["people"], hold["decided_by"]) == ("open", [mail("late")], None)
    (ban,) = told["bans"]
    assert (ban["user"], ban["made_by"], ban["lifted_why"]) == (mail("ben"), "test", "a mistake")
    assert {"ban.made", "ban.lifted", "hold.opened"} <= {act["action"] for act in told["acts"]}
    assert [row["until"] for row in told["configuration"]] == [None]


def test_the_trail_behind_it_is_checked_and_every_act_points_into_it(past: Past, told: dict[str, Any]) -> None:
    with read_only(store_url(past.settings)) as db:
        events = {event.seq: event for event in journal.events(db)}
        entries, head = journal.head(db)
    assert told["audit"] == {"first": 1, "entries": entries, "head": head, "whole": True, "breaks_at": None}
    assert all(events[act["entry"]].hash == act["hash"] for act in told["acts"])


def test_a_threshold_makes_exceptions_and_other_days_are_empty(past: Past) -> None:
    now, none = TODAY.timestamp(), 86400.0
    with read_only(store_url(past.settings)) as db:
        strict = gather(db, Asked(now - 3600, now + 3600, 0.001, ("", ""), None)).as_json()
        empty = gather(db, Asked(0.0, none, 0.001, ("", ""), None)).as_json()
    slow = [entry for entry in strict["exceptions"] if entry["what"] == "over_threshold"]
    assert len(slow) == 5
    assert [empty[sheet] for sheet in ("leavers", "exceptions", "holds", "bans", "acts")] == [[], [], [], [], []]


class _Page(HTMLParser):
    """Collects what a page would load, its scripts, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_files_are_the_same_for_the_same_store_harmless_and_without_a_secret(past: Past, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        done = past.run("evidence", *DAYS, "--format", "all", "--output", str(tmp_path / folder))
        assert (done.code, "audit trail whole" in done.out) == (0, True)
    files = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "two").iterdir()}
    assert {(tmp_path / "one" / name).stat().st_mode & 0o777 for name in files} == {0o600}
    for line in files["SHA256SUMS"].decode().splitlines():
        seal, name = line.split("  ")
        assert hashlib.sha256(files[name]).hexdigest() == seal
    assert [secret for secret in past.secrets for raw in files.values() if secret.encode() in raw] == []

    rows = list(csv.DictReader(io.StringIO(files["leavers.csv"].decode(), newline="")))
    assert {row["user"] for row in rows} == {mail("leo"), mail("ben"), mail("late"), f"'{FORMULA}", TAG}
    assert not [cell for row in rows for cell in row.values() if cell[:1] in set("=+-@\t\r")]

    page = _Page()
    page.feed(files["evidence.html"].decode())
    assert (page.loads, page.tags & {"script", "link", "img", "iframe"}) == ([], set())
    assert TAG in page.text
    assert f"Leavers ({len(rows)})" in page.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from", "2026-02-01", "--to", "2026-01-01"], "--from is after --to"),
        (["--from", "01.02.2026", "--to", "2026-03-01"], "does not match the format"),
        ([*DAYS, "--format", "csv"], "--output DIR"),
        ([*DAYS, "--threshold", "soon"], "not a duration"),
    ],
)
def test_what_cannot_be_asked_for(past: Past, words: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["-c", str(past.settings), "evidence", *words], standalone_mode=False)
    assert isinstance(done.exception, UsageError | BadParameter)
    assert (done.exception.exit_code, said in str(done.exception)) == (2, True)


def copy_of(past: Past, folder: Path, *statements: str) -> Path:
    """Copy the store and change it behind idsync's back."""
    settings = folder / "config.toml"
    settings.write_text(past.settings.read_text().replace(store_url(past.settings), url_of(folder / "idsync.db")))
    shutil.copy(past.settings.parent / "idsync.db", folder / "idsync.db")
    with sqlite3.connect(folder / "idsync.db") as connection:
        for name in ("audit_is_not_updated", "audit_is_not_deleted"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for name in [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return settings


@pytest.mark.needs_file("alters a copy of it")
@pytest.mark.parametrize(
    ("statement", "code", "said"),
    [
        ("UPDATE audit SET subject = 'eve' WHERE seq = 5", 1, "BROKEN at entry 5"),
        ("UPDATE departures SET verified_at = NULL, access_ended_at = NULL, hold_id = NULL", 5, "not proven"),
    ],
)
def test_the_exit_code_says_what_is_wrong(past: Past, tmp_path: Path, statement: str, code: int, said: str) -> None:
    done = idsync(copy_of(past, tmp_path, statement), "evidence", *DAYS)
    assert (done.code, said in done.out) == (code, True)
