"""`idsync revoke` shows everything first: what ends, what is reported, what waits; asks on a terminal; heeds a no."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.company import LAB, Company, founded
from support.daemon import Daemon, idsync
from support.directory import mail
from support.fixtures import Opener, _sandboxes, dialect, gateway, opened  # noqa: F401
from support.gateway import Gateway
from support.settings import DATA, WEB, store_url

from idsync.store import journal
from idsync.store.opening import read_only

# ruff: noqa: F811


@pytest.fixture
def company(gateway: Gateway, opened: Opener) -> Company:
    """Leo with two accounts, and keys he has made or may know; nobody runs."""
    home = opened(teams=[{**DATA, "on_member_departure": "rotate"}, WEB])
    company = founded(gateway, home)
    company.second_account(home, "data", None)
    leo = company.leo.user_id
    gateway.key_of(None, "data", metadata={"service_account_id": "nightly"}, key_alias="nightly")
    gateway.key_of(company.ann.user_id, None, key_alias="made-for-ann", created_by=leo)
    gateway.key_of(leo, None, key_alias="mine", spend=1.25)
    gateway.key_of(None, "web", key_alias="not-his")
    opened.close()
    return company


def planned(opened: Opener, *words: str) -> dict[str, Any]:
    done = idsync(opened.settings, "revoke", *words, "--dry-run", "--json")
    assert done.code == 3, done.err
    return dict(done.json)


def unchanged(gateway: Gateway, company: Company, settings: Path, entries: int) -> bool:
    """Tell whether nothing was written, here or at the gateway, and every key works."""
    gateway.assert_at_work(company.leo, "data", LAB)
    company.assert_others_work()
    return gateway.paths(writes=True) == [] and written(settings) == entries


def written(settings: Path) -> int:
    with read_only(store_url(settings)) as db:
        return journal.head(db)[0]


def test_the_dry_run_shows_every_account_and_everything_that_is_reported(
    gateway: Gateway, opened: Opener, company: Company
) -> None:
    gateway.post("/v1/chat/completions", {"model": "gpt-5-mini"}, key=company.shared.raw)
    gateway.ready()
    entries = written(opened.settings)
    radius = planned(opened, mail("leo"))
    assert [(one["gateway_user_id"], one["linked"], one["keys"]) for one in radius["accounts"]] == [
        ("u-leo", True, 4),
        ("u-leo2", True, 2),
    ]
    assert sorted(str(key["team"]) for key in radius["keys"]) == ["None", "None", "None", "data", "data", LAB]
    assert [key["spend"] for key in radius["keys"] if key["alias"] == "mine"] == [1.25]
    assert radius["sums"] == {"accounts": 2, "keys": 6, "spend": 1.25, "teams": 2, "reported": 3}
    assert radius["teams"] == ["data", LAB]
    assert [(key["alias"], key["why"], key["rotation"]) for key in radius["reported"]] == [
        ("made-for-ann", "created_by", "not asked for"),
        (None, "shared", "wanted"),
        ("nightly", "service_account", "wanted"),
    ]
    assert [key["last_used"] is None for key in radius["reported"]] == [True, False, True]
    assert (radius["deletion_waits"], radius["held"], radius["conflict"]) == (None, None, None)
    text = idsync(opened.settings, "revoke", mail("leo"), "--dry-run").out
    assert "  ends: 6 keys of 2 accounts, spend 1.2500, 2 team memberships\n  deletion: at once\n" in text
    assert "  reported, works on: nightly  team data  " in text
    assert unchanged(gateway, company, opened.settings, entries)
    for raw in company.all_secrets:
        assert raw not in text


def test_a_daemon_shows_the_same(gateway: Gateway, opened: Opener, company: Company) -> None:
    alone = planned(opened, mail("leo"))
    with Daemon(opened.settings):
        assert planned(opened, mail("leo")) == alone


def test_what_was_shown_is_what_ends(gateway: Gateway, opened: Opener, company: Company) -> None:
    radius = planned(opened, mail("leo"))
    assert idsync(opened.settings, "revoke", mail("leo"), "--reason", "test").code == 0
    ended = {row["token"] for row in gateway.state()["archived_keys"]}
    assert ended == {key["key_id"] for key in radius["keys"]}
    assert idsync(opened.settings, "reconcile").code in (0, 3)
    shown = idsync(opened.settings, "keys", "exposed", "--json").json
    assert {key["key_id"] for key in shown} == {key["key_id"] for key in radius["reported"]}
    again = planned(opened, mail("leo"))
    assert (again["keys"], again["teams"]) == ([], [])
    assert {key["key_id"] for key in again["reported"]} == {key["key_id"] for key in shown}


def test_an_account_that_is_not_linked_yet_is_found_and_not_linked(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    holder = gateway.account("eve", None, "data")
    home.directory.hire("eve")
    opened.close()
    radius = planned(opened, mail("eve"))
    assert [(one["gateway_user_id"], one["linked"]) for one in radius["accounts"]] == [(holder.user_id, False)]
    assert {key["key_id"] for key in radius["keys"]} == {key.id for key in holder.keys}
    assert "account u-eve, found just now" in idsync(opened.settings, "revoke", mail("eve"), "--dry-run").out
    assert gateway.answers(holder.keys) == {200}
    assert opened(working=False).person("eve").account_id is None


def test_two_accounts_that_match_are_a_conflict_with_what_settles_it(gateway: Gateway, opened: Opener) -> None:
    home = opened(working=False)
    for number in range(2):
        gateway.account("eve", None, user_id=f"u-eve{number}")
    home.directory.hire("eve")
    opened.close()
    radius = planned(opened, mail("eve"))
    assert (radius["accounts"], radius["keys"]) == ([], [])
    assert "2 gateway accounts have the e-mail" in radius["conflict"]
    assert f"idsync link {mail('eve')} GATEWAY_USER_ID" in radius["conflict"]
    assert radius["other_accounts"] == ["u-eve0", "u-eve1"]


def test_the_last_admin_and_a_deletion_that_never_comes_are_told(gateway: Gateway, opened: Opener) -> None:
    home = opened(policy={"on_departure": "block"})
    boss = gateway.account("boss", None, user_role="proxy_admin")
    home.directory.hire("boss", "Data")
    home.link("boss", boss.user_id)
    home.wait_until_quiet()
    opened.close()
    radius = planned(opened, mail("boss"))
    assert "last admin" in radius["held"]
    assert "on_departure" in radius["deletion_waits"]
    text = idsync(opened.settings, "revoke", mail("boss"), "--dry-run").out
    assert f"HELD: {mail('boss')} is the gateway's last admin" in text
    gateway.account("other", user_role="proxy_admin")
    assert planned(opened, mail("boss"))["held"] is None


# -- on a terminal --------------------------------------------------------------------------------------------------


@contextmanager
def on_a_terminal(settings: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a command whose stdin is a terminal; yield it and the end that types."""
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "idsync", "-c", str(settings), *words]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("IDSYNC_")}
    process = subprocess.Popen(
        line, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        for stream in filter(None, (process.stdout, process.stderr)):
            stream.close()


def answer(settings: Path, typed: bytes, *words: str) -> tuple[int, str, str]:
    """Wait for the question, answer it, and return the exit code and what was printed."""
    with on_a_terminal(settings, *words) as (process, ours):
        assert process.stderr is not None
        asked = ""
        while "[y/N]" not in asked:
            letter = process.stderr.read(1)
            assert letter, f"no question: {asked}"
            asked += letter
        os.write(ours, typed)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, asked + err


@pytest.mark.parametrize("typed", [b"n\n", b"\n", b"no\n", b"\x04"], ids=repr)
def test_a_terminal_is_asked_and_anything_but_yes_changes_nothing(
    gateway: Gateway, opened: Opener, company: Company, typed: bytes
) -> None:
    gateway.ready()
    entries = written(opened.settings)
    code, out, err = answer(opened.settings, typed, "revoke", mail("leo"))
    assert code == 130
    assert "ends: 6 keys of 2 accounts" in out
    assert "Revoke all of it? [y/N]" in err
    assert "Traceback" not in err
    assert unchanged(gateway, company, opened.settings, entries)


def test_a_yes_on_a_terminal_revokes(gateway: Gateway, opened: Opener, company: Company) -> None:
    code, out, _ = answer(opened.settings, b"y\n", "revoke", mail("leo"))
    assert code == 0
    assert out.rstrip().splitlines()[-2].startswith(f"{mail('leo')}: banned; departure verified")
    gateway.assert_gone(company.leo)


def test_yes_is_not_asked(gateway: Gateway, opened: Opener, company: Company) -> None:
    with on_a_terminal(opened.settings, "revoke", mail("leo"), "--yes") as (process, _):
        out, err = process.communicate(timeout=60)
    assert (process.returncode, "Revoke all of it?" in err, "ends:" in out) == (0, False, False)
    gateway.assert_gone(company.leo)
