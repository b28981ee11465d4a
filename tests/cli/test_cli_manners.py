"""What a person at a terminal meets: what was meant, completion, the man page, a store put back."""

from __future__ import annotations

import fcntl
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from idsync.audit import GENESIS, first_break
from idsync.model import Origin
from idsync.store import directory, facts, journal
from idsync.store.opening import read_only
from idsync.store.sqlite import backup

from .site import Site, create, run

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("statsu",), "No such command 'statsu'. Did you mean 'status'? Try: idsync --help"),
        (("config", "chekc"), "No such command 'chekc'. Did you mean 'check'? Try: idsync config --help"),
        (("status", "--jsno"), "No such option '--jsno'. Did you mean '--json'? Try: idsync status --help"),
        (("revoke",), "Missing argument 'USER'. Try: idsync revoke --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_is_one_line_with_what_to_do(tmp_path: Path, args: tuple[str, ...], said: str) -> None:
    done = run(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"idsync: {said}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_each_shell_asks_this_program(tmp_path: Path, shell: str) -> None:
    done = run("completion", shell, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_IDSYNC_COMPLETE={shell}_complete" in done.stdout


def test_completion_knows_commands_below_commands(tmp_path: Path) -> None:
    typed = {"_IDSYNC_COMPLETE": "bash_complete", "COMP_WORDS": "idsync db re", "COMP_CWORD": "2"}
    assert run(cwd=tmp_path, environ=typed).stdout == "plain,restore\n"


def test_the_man_page_tells_every_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, TOOLS / "man_page.py", tmp_path / "man/idsync.1"], check=False)
    page = (tmp_path / "man/idsync.1").read_text("utf-8")
    assert done.returncode == 0
    assert '.SS "idsync db restore [OPTIONS] FILE"' in page
    assert not [line for line in page.splitlines() if line.startswith("'")]


# -- a store put back -------------------------------------------------------------------------------------------------


in_a_file = pytest.mark.needs_file("copies it and puts it back")


@pytest.fixture
def saved(site: Site) -> Path:
    """A backup with one user; another came afterwards."""
    saved = site.folder / "saved.db"
    hire(site, "ada@example.com")
    backup(site.url, saved)
    hire(site, "cy@example.com")
    return saved


def hire(site: Site, name: str) -> None:
    site.fill(lambda db, intake, _: create(db, intake, name, Origin("okta", "token-1", 1.0)))


def users(site: Site) -> int:
    with read_only(site.url) as db:
        return len(directory.find_users_any(db, "ada@example.com")) + len(
            directory.find_users_any(db, "cy@example.com")
        )


@in_a_file
def test_a_restored_store_is_the_backup_frozen_and_noted_and_the_old_one_is_kept(site: Site, saved: Path) -> None:
    done = site.json("db", "restore", str(saved))
    assert (users(site), done["frozen"]) == (1, True)
    with read_only(site.url) as db:
        assert "restored from a backup" in facts.get(db, facts.FROZEN)["reason"]
        assert journal.last(db, 1)[0].action == "store.restored"
        assert first_break(list(journal.events(db)), 0, GENESIS) is None
    with sqlite3.connect(done["kept"]) as kept:
        assert kept.execute("SELECT count(*) FROM users WHERE user_name LIKE 'cy@%'").fetchone() == (1,)
    assert sorted(path.name for path in site.folder.glob("*.restoring*")) == []
    assert site.store.stat().st_mode & 0o777 == 0o600


@in_a_file
def test_a_store_that_was_lost_is_put_back(site: Site, saved: Path) -> None:
    for path in site.folder.glob("idsync.db*"):
        if path.is_file():
            path.unlink()
    assert site.json("db", "restore", str(saved))["kept"] is None
    assert users(site) == 1


@in_a_file
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no backup at"),
        (b"no database, but long enough to be looked at" * 100, "cannot read the store"),
        ("CREATE TABLE other (x)", "is not a store of idsync"),
        ("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('idsync', '9999_future')", "newer release"),
    ],
    ids=["nothing", "no database", "another's", "a newer release's"],
)
def test_what_is_no_backup_changes_nothing(site: Site, saved: Path, content: bytes | str | None, said: str) -> None:
    bad = site.folder / "bad.db"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif content is not None:
        if "INSERT" in content:
            bad.write_bytes(saved.read_bytes())
        with sqlite3.connect(bad) as database:
            database.execute(content)
    before = site.store.read_bytes()
    done = site.run("db", "restore", str(bad))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert said in done.stderr
    assert site.store.read_bytes() == before
    assert [path for path in site.folder.iterdir() if "restoring" in path.name or "before" in path.name] == []


@in_a_file
def test_nothing_is_put_under_a_running_process(site: Site, saved: Path) -> None:
    with (site.folder / "idsync.db.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = site.run("db", "restore", str(saved))
    assert (done.returncode, users(site)) == (7, 2)
