"""The operator's side of a store that several processes share, on a real PostgreSQL."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.stores import SERVER, database

from idsync import config as configuration
from idsync.clock import SystemClock
from idsync.doctor import files, shared
from idsync.doctor.check import Check
from idsync.metrics import Metrics
from idsync.pulse import Pulse
from idsync.store import journal, replicas
from idsync.store.db import Db, Store
from idsync.store.opening import store_of
from idsync.web.health import components

from .site import Site

pytestmark = pytest.mark.skipif(
    not SERVER, reason="no PostgreSQL: IDSYNC_TEST_POSTGRES is not set (tools/with_postgres.py sets it)"
)
SECRET = "of-the-database"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database(tmp_path / "shared")


def on(site: Site, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a shared store; whatever it says, it is not the password."""
    done = site.run(*words, IDSYNC_STORE__URL=url, IDSYNC_STORE__PASSWORD=SECRET)
    assert SECRET not in done.stdout + done.stderr
    return done


@contextmanager
def replica(url: str, role: str = "all") -> Iterator[Store]:
    store = store_of(url, role=role)
    store.open()
    try:
        yield store
    finally:
        store.close()


def note(db: Db) -> None:
    journal.append(db, at=replicas.time_of(db, 0.0) - 90, actor="ada", action="frozen", subject="test", detail={})


@contextmanager
def nobody_links(url: str) -> Iterator[None]:
    """Keep everybody from linking audit entries, as a lock that is stuck does."""
    import psycopg

    from idsync.store.postgres import LINK_LOCK

    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LINK_LOCK,))
        yield


def gauges(store: Store) -> dict[str, float]:
    now = replicas.time_of(store.reader(), 0.0)
    text = Metrics(store.reader, lambda: now, "", store).text().decode()
    return {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}


def test_an_installation_moves_to_a_database_and_back_by_the_command_line(site: Site, url: str) -> None:
    site.two_leavers()
    before = site.json("departures")
    done = on(site, url, "db", "copy", site.url, url)
    assert done.returncode == 0, done.stderr
    assert "read back and equal" in done.stdout
    assert "copying users: 2 of 2\n" in done.stderr
    assert "FROZEN" in site.run("status").stdout
    assert json.loads(on(site, url, "departures", "--json").stdout) == before
    assert on(site, url, "audit", "verify").stdout.startswith("12 entries, chain whole")
    again = on(site, url, "db", "copy", site.url, url)
    assert (again.returncode, again.stdout) == (1, "")
    assert "has a store in it already" in again.stderr
    back = f"sqlite:///{site.folder / 'back.db'}"
    told = json.loads(on(site, url, "db", "copy", url, back, "--json").stdout)
    assert (told["tables"]["users"]["rows"], told["audit_entries"]) == (2, 12)
    assert json.loads(on(site, back, "departures", "--json").stdout) == before
    assert on(site, back, "audit", "verify").stdout.startswith("13 entries, chain whole")


def test_a_copy_is_refused_with_the_exit_code_that_fits(site: Site, url: str) -> None:
    site.two_leavers()
    for source, target in ((site.url, url.replace("@", f":{SECRET}@")), (site.url, f"{url}?password={SECRET}")):
        refused = on(site, url, "db", "copy", source, target)
        assert (refused.returncode, "holds a password" in refused.stderr) == (2, True)
    assert on(site, url, "db", "copy", site.url, "mysql://db/x").returncode == 2
    assert on(site, url, "db", "copy", f"{site.url}x", url).returncode == 1
    with replica(site.url), replica(url):
        assert on(site, url, "db", "copy", site.url, f"{site.url}.new").returncode == 7
        used = on(site, url, "db", "copy", url, f"{site.url}.new")
    assert (used.returncode, used.stdout) == (7, "")
    assert "idsync serve (role all) of release" in used.stderr


def test_backup_and_restore_name_the_commands_of_postgresql_and_these_work(site: Site, url: str) -> None:
    site.two_leavers()
    assert on(site, url, "db", "copy", site.url, url).returncode == 0
    trail = on(site, url, "audit", "verify").stdout
    assert "integrity" not in on(site, url, "db", "check").stdout
    file = site.folder / "a backup"
    for words in (("backup", str(file)), ("restore", str(file), "--yes")):
        refused = on(site, url, "db", *words)
        assert (refused.returncode, refused.stdout) == (2, "")
        line = shlex.split(refused.stderr.strip().split("~/.pgpass: ")[1])
        assert line[0] in {"pg_dump", "pg_restore"}
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with replica(url) as store:
            store.write(note)
    assert on(site, url, "audit", "verify").stdout != trail
    assert "chain whole" in on(site, url, "audit", "verify").stdout


def test_check_tells_settings_schema_and_rows_and_what_is_wrong_with_them(site: Site, url: str) -> None:
    told = json.loads(on(site, url, "db", "check", "--json").stdout)
    assert told["sound"] is True
    assert {"schema: this release's", "users: 0 row(s)"} <= set(told["lines"])
    assert any("synchronous_commit = on, fsync = on" in line for line in told["lines"])
    loose = f"{url}?options=-c%20synchronous_commit%3Doff"
    done = on(site, loose, "db", "check")
    assert (done.returncode, "PROBLEM the database has synchronous_commit = off" in done.stdout) == (1, True)


def test_verify_and_status_name_what_is_not_linked_and_who_is_there(site: Site, url: str) -> None:
    with replica(url) as store, replica(url, "web"):
        with nobody_links(url):
            store.write(note)
            verified = on(site, url, "audit", "verify")
            assert verified.returncode == 0
            assert "1 entry is committed and not linked yet" in verified.stdout
            assert json.loads(on(site, url, "audit", "verify", "--json").stdout)["unlinked"] == 1
            view = json.loads(on(site, url, "status", "--json").stdout)["store"]
            assert (view["shared"], view["audit_unlinked"], view["audit_unlinked_seconds"] > 60) == (True, 1, True)
            assert sorted((one["role"], one["leads"]) for one in view["replicas"]) == [("all", True), ("web", False)]
            text = on(site, url, "status").stdout
            assert "not linked yet: 1, the oldest for" in text
            assert gauges(store)["idsync_audit_unlinked"] == 1
            assert gauges(store)["idsync_audit_unlinked_seconds"] > 60
            assert states(store, site)["replicas"] == "degraded"
        store.write(note)  # the writer links what it finds
        told = json.loads(on(site, url, "audit", "verify", "--json").stdout)
        assert (told["unlinked"], told["entries"]) == (0, 2)
        assert states(store, site)["replicas"] == "ok"
    assert "NO REPLICA uses the database" in on(site, url, "status").stdout


def states(store: Store, site: Site) -> dict[str, str]:
    config = configuration.load(str(site.config), {}).config
    now = replicas.time_of(store.reader(), 0.0)
    found = components(store, store.reader(), config, Pulse(SystemClock().now), now)
    return {part.name: part.state for part in found}


def test_metrics_tell_who_serves_who_leads_and_what_was_begun_again(url: str) -> None:
    with replica(url) as one, replica(url, "web") as other, replica(url, "command"):
        assert [gauges(store)["idsync_replicas"] for store in (one, other)] == [2, 2]
        assert [gauges(store)["idsync_leader"] for store in (one, other)] == [1, 0]
        assert gauges(one)["idsync_store_retries_total"] == 0
        seen: list[Any] = []

        def meet(db: Db) -> None:
            """Read what the other one changes before we are done; the second time nobody does."""
            seen.append(db.one("SELECT COUNT(*) AS n FROM facts"))
            if len(seen) == 1:
                other.write(lambda theirs: rise(theirs))
            rise(db)

        one.write(meet)
        assert len(seen) == 2
        assert gauges(one)["idsync_store_retries_total"] == 1


def rise(db: Db) -> None:
    sql = (
        "INSERT INTO facts (name, value, at) VALUES ('n', '1', 0.0) ON CONFLICT (name) DO UPDATE SET at = facts.at + 1"
    )
    db.execute(sql)


# -- doctor ---------------------------------------------------------------------------------------------------------


def told(checks: list[Check]) -> dict[str, tuple[str, str]]:
    return {check.name: (check.severity, f"{check.says} -> {check.remedy}") for check in checks}


def test_the_doctor_looks_at_the_database_at_its_clock_and_at_who_is_there(site: Site, url: str) -> None:
    found = told(shared.shared(url, lambda: SECRET))
    assert {name: severity for name, (severity, _) in found.items()} == {
        "store": "ok",
        "schema": "ok",
        "store clock": "ok",
        "replicas": "note",
        "audit": "ok",
    }
    with replica(url, "web"):
        severity, says = told(shared.shared(url, None))["replicas"]
        assert (severity, "nobody leads" in says) == ("wrong", True)
        with replica(url) as store:
            assert told(shared.shared(url, None))["replicas"][0] == "ok"
            with nobody_links(url):
                store.write(note)
                severity, says = told(shared.shared(url, None))["audit"]
                assert (severity, "1 audit entry is" in says) == ("wrong", True)
    done = on(site, url, "doctor", "--json")
    names = [check["check"] for check in json.loads(done.stdout)["checks"]]
    assert {"store", "schema", "store clock", "replicas", "audit", "files"} <= set(names)
    assert not {"sqlite", "disk"} & set(names)


@pytest.mark.parametrize(
    ("sql", "name", "severity", "says"),
    [
        ("DELETE FROM idsync_migrations WHERE name = '0001_initial'", "schema", "warning", "pg_dump"),
        ("INSERT INTO idsync_migrations (name) VALUES ('9999_later')", "schema", "warning", "9999_later"),
        ("CREATE TABLE idsync_copying ()", "store", "wrong", "DROP TABLE idsync_copying"),
        (
            "INSERT INTO replicas VALUES ('a', 'all', 'old-host', '0.0.1', 0, 1e12), ('b', 'web', 'new-host', '0.9', 0, 1e12)",
            "replicas",
            "warning",
            "0.0.1, 0.9",
        ),
    ],
)
def test_what_is_wrong_with_a_shared_store_is_told_with_its_remedy(
    url: str, sql: str, name: str, severity: str, says: str
) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.encode())
    found = [check for check in shared.shared(url, None) if check.name == name]
    assert found[-1].severity == severity
    assert says in f"{found[-1].says} -> {found[-1].remedy}"


def test_a_database_that_does_not_answer_is_wrong_and_names_no_secret(url: str) -> None:
    nowhere = f"{url.rsplit('/', 1)[0]}/nothing_is_here"
    [found] = shared.shared(nowhere, lambda: SECRET)
    assert (found.name, found.severity) == ("store", "wrong")
    assert "nothing_is_here" in found.says
    assert SECRET not in str(found)


def test_the_file_of_the_databases_password_is_looked_at(site: Site, url: str) -> None:
    secret = site.folder / "password"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    environ = {"IDSYNC_STORE__URL": url, "IDSYNC_STORE__PASSWORD_FILE": str(secret)}
    known = configuration.load(str(site.config), environ).config
    found = [check.remedy for check in files.files(known, None) if "store.password_file" in check.says]
    assert found == [f"chmod 0640 {secret}"]
