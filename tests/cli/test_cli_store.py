"""What a script reads: status, departures, holds, the trail, the store itself."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from support.editor import edit

from idsync.sandbox.server import Sandbox

from .site import Site

STATES = {"accepted", "fenced", "blocked", "deleted", "verified", "settled", "held", "parked", "cancelled"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_status_shows_what_an_operator_looks_at_first(site: Site) -> None:
    site.two_leavers()
    view = site.json("status")
    assert set(view) == {
        "sources",
        "last_pass",
        "time_to_revoke",
        "unverified_departures",
        "jobs",
        "waiting_jobs",
        "holds",
        "exposed_keys",
        "spend_after_departure",
        "keys",
        "refused",
        "frozen",
        "daemon",
        "expired_protections",
        "conflicts",
        "undelivered_notifications",
        "retention",
        "store",
    }
    assert view["daemon"] == {"state": "does not run", "differs": None}
    [source] = view["sources"]
    assert (source["name"], source["live_tokens"], source["age_seconds"] < 60) == ("okta", 0, True)
    assert {(job["user"], job["lane"], job["state"]) for job in view["jobs"]} == {
        ("ada@example.com", "revoke", "ready"),
        ("bob@example.com", "revoke", "ready"),
    }
    took = view["time_to_revoke"]
    assert (took["count"], took["p50"], took["p99"], view["last_pass"]) == (0, None, None, None)
    kept = view["retention"]
    assert (kept["audit_first_entry"], kept["last_turn"], kept["under_way"]) == (1, None, False)
    assert [hold["people"] for hold in view["holds"]] == [1]
    text = site.run("status").stdout
    assert "source okta: last change" in text
    assert "HOLD" in text


def test_departures_have_the_shape_of_the_contract(site: Site) -> None:
    site.two_leavers()
    listed = site.json("departures")
    assert [entry["user"] for entry in listed] == ["ada@example.com", "bob@example.com"]
    for entry in listed:
        assert {"user", "gateway_user_id", "state", "evidence", "stages"} <= set(entry)
        assert entry["state"] in STATES
        assert (entry["evidence"], entry["gateway_user_id"]) == ("scim_delete", None)
        assert all(TIME.fullmatch(at) for at in entry["stages"].values())
        assert {"received", "accepted"} <= set(entry["stages"])
        assert entry["time_to_revoke_seconds"] is None
    assert [entry["hold_id"] is None for entry in listed] == [True, False]
    assert site.json("departures", "BOB@example.com") == listed[1:]
    assert "ada@example.com  accepted  (scim_delete; not verified)" in site.run("departures").stdout


def test_a_name_moves_no_cursor_and_begins_no_line(site: Site) -> None:
    """Names come from whoever may write to a directory; an operator reads them on a terminal."""
    names = ("\x1b[2Jada\u009b31m\nidsync: all is well", "bob\u202emoc.elpmaxe")
    site.two_leavers(*names)
    for args in (("departures",), ("departures", names[0]), ("holds", "list"), ("audit", "tail"), ("status",)):
        for form in ((), ("--json",)):
            done = site.run(*args, *form)
            assert not re.search(
                "[\\0-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u202e]|^idsync: all", done.stdout + done.stderr, re.MULTILINE
            )
    assert [entry["user"] for entry in site.json("departures")] == list(names)
    assert "\\u001b[2Jada\\u009b31m\\u000aidsync" in site.run("departures").stdout


def test_no_departures_is_an_empty_list(site: Site) -> None:
    site.fill(lambda db, intake, control: None)
    assert site.json("departures") == []
    assert site.json("holds", "list") == []


def test_holds_have_the_shape_of_the_contract(site: Site) -> None:
    site.two_leavers()
    [hold] = site.json("holds", "list")
    assert {"id", "checksum", "reason", "people"} <= set(hold)
    assert hold["people"] == [{"user": "bob@example.com", "team": None, "cause": "scim_delete"}]
    assert hold["reason"] == "okta pushed more than 1 departures in 10 minutes"
    assert site.json("holds", "show", hold["id"]) == hold
    text = site.run("holds", "show", hold["id"]).stdout
    assert f"idsync holds approve {hold['id']} --checksum {hold['checksum']}" in text


def test_a_hold_is_approved_with_the_checksum_it_was_shown_with_and_no_other(served: Site) -> None:
    served.two_leavers()
    [hold] = served.json("holds", "list")
    wrong = served.run("holds", "approve", hold["id"], "--checksum", "0" * 16)
    assert (wrong.returncode, wrong.stdout) == (4, "")
    assert f"has changed since checksum {'0' * 16} was shown" in wrong.stderr
    right = served.run("holds", "approve", hold["id"], "--checksum", hold["checksum"])
    assert (right.returncode, right.stdout) == (0, "approved; 1 item released\n")
    assert served.json("holds", "list") == []


# -- the trail ------------------------------------------------------------------------------------------------------


def tail(site: Site, *args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.run("audit", "tail", "--json", *args).stdout.splitlines()]


def test_the_trail_is_shown_newest_last_and_verified_with_its_head(site: Site) -> None:
    site.two_leavers()
    entries = tail(site)
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    done = site.run("audit", "verify")
    assert done.returncode == 0
    assert done.stdout == f"{len(entries)} entries, chain whole; head {entries[-1]['hash']}\n"


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE audit SET subject = 'eve' WHERE seq = 3", 3),
        ("""UPDATE audit SET detail = '{"id":"x"}' WHERE seq = 2""", 2),
        ("DELETE FROM audit WHERE seq = 4", 5),
    ],
)
def test_a_trail_somebody_tampered_with_is_exit_1_and_names_the_entry(site: Site, statement: str, broken: int) -> None:
    site.two_leavers()
    edit(site.url, statement)
    done = site.run("audit", "verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"the chain breaks at entry {broken}:")


def test_a_trail_whose_detail_is_no_json_any_more_is_told_without_a_traceback(site: Site) -> None:
    site.two_leavers()
    edit(site.url, "UPDATE audit SET detail = 'gone' WHERE seq = 3")
    done = site.run("audit", "verify")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "entry 3" in done.stdout + done.stderr


# -- the store ------------------------------------------------------------------------------------------------------


@pytest.mark.needs_file("copies it")
def test_a_backup_is_a_store_and_never_overwrites(site: Site) -> None:
    site.two_leavers()
    target = site.folder / "copy.db"
    done = site.run("db", "backup", str(target))
    assert (done.returncode, done.stdout) == (0, f"{target}: {target.stat().st_size} bytes\n")
    environ = {"IDSYNC_STORE__URL": f"sqlite:///{target}"}
    assert "chain whole" in site.run("audit", "verify", **environ).stdout
    again = site.run("db", "backup", str(target))
    assert (again.returncode, again.stdout) == (1, "")
    assert "a backup never overwrites" in again.stderr


@pytest.mark.needs_file("damages it")
def test_check_counts_rows_and_a_damaged_store_is_exit_1(site: Site) -> None:
    site.two_leavers()
    done = site.run("db", "check")
    assert done.returncode == 0
    assert "integrity: ok\n" in done.stdout
    assert "departures: 2 rows\n" in done.stdout
    with site.store.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xa5" * (site.store.stat().st_size - 8192))
    for args in (("db", "check"), ("audit", "verify")):
        broken = site.run(*args)
        assert broken.returncode == 1
        assert "Traceback" not in broken.stderr


@pytest.mark.needs_file("is made by the first command")
def test_a_schema_is_brought_up_to_date_on_request_and_what_is_missing_told_before(site: Site) -> None:
    planned = site.run("db", "migrate", "--dry-run", "--json")
    missing = json.loads(planned.stdout)["missing"]
    assert (planned.returncode, missing[0], site.store.exists()) == (3, "0001_initial", False)
    done = site.run("db", "migrate")
    assert (done.returncode, done.stdout.splitlines()) == (0, [f"applied {name}" for name in missing])
    again = site.run("db", "migrate", "--dry-run", "--post")
    assert (again.returncode, again.stdout) == (0, "the schema is this release's\n")
    with closing(sqlite3.connect(site.store)) as store, store:
        store.execute("INSERT INTO _sqlite_migrations VALUES (NULL, 'idsync', '9999_later', '2026')")
    newer = site.run("db", "migrate")
    assert (newer.returncode, "written by a newer release" in newer.stderr) == (1, True)


# -- commands that need the gateway ---------------------------------------------------------------------------------


def test_revoking_somebody_unknown_while_the_gateway_is_down_says_so(site: Site) -> None:
    done = site.run("revoke", "nobody@example.com", "--reason", "left")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("idsync: ")
    assert re.search(r"gateway|connect|answer", last)


def test_somebody_neither_a_source_nor_the_gateway_knows_is_exit_1(served: Site) -> None:
    done = served.run("revoke", "nobody@example.com")
    assert (done.returncode, done.stdout) == (1, "")
    assert "neither a source nor the gateway knows 'nobody@example.com'" in done.stderr


def test_an_account_only_the_gateway_knows_is_revoked_and_proven_gone(served: Site, sandbox: Sandbox) -> None:
    seed(sandbox, users=[{"user_id": "acc-1", "user_email": "eve@example.com"}], keys=[{"user_id": "acc-1"}])
    radius = served.run("revoke", "eve@example.com", "--dry-run", "--json")
    assert radius.returncode == 3
    assert len(json.loads(radius.stdout)["keys"]) == 1
    done = served.run("revoke", "eve@example.com", "--reason", "left", "--json")
    assert done.returncode == 0, done.stderr
    departure = json.loads(done.stdout)["departure"]
    assert (departure["gateway_user_id"], departure["evidence"], departure["state"]) == ("acc-1", "revoked", "verified")
    assert len(departure["receipt"]["keys"]) == 1
    assert served.run("verify", "eve@example.com").returncode == 0
    seed(sandbox, keys=[{"user_id": "acc-1"}])
    assert served.run("verify", "eve@example.com").returncode == 5


def seed(sandbox: Sandbox, **sections: Any) -> None:
    import urllib.request

    request = urllib.request.Request(f"{sandbox.url}/_sandbox/seed", data=json.dumps(sections).encode(), method="POST")
    urllib.request.urlopen(request).close()


def test_a_dry_run_of_a_pass_says_what_would_change_and_changes_nothing(served: Site) -> None:
    planned = served.run("reconcile", "--dry-run", "--json")
    assert planned.returncode == 3
    view = json.loads(planned.stdout)
    assert [(change["kind"], change["subject"]) for change in view["changes"]] == [("team.create", "data")]
    assert served.run("reconcile").returncode == 0
    assert served.run("reconcile", "--dry-run").stdout.startswith("nothing to do")


def test_a_pass_while_the_gateway_is_down_is_exit_1_with_a_sentence(site: Site) -> None:
    done = site.run("reconcile")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
