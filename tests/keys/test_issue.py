"""Personal keys: only for people who have access, with an end, their secret seen by who asked and by nobody else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.company import founded
from support.daemon import Daemon, idsync
from support.directory import mail
from support.fixtures import both_dialects
from support.gateway import Gateway
from support.home import Home
from support.settings import write_settings

from idsync.cli.main import cli
from idsync.errors import IdsyncError, NotFound, SinkFailed, UsageError
from idsync.store import teamkeys

from .ground import Ground

ASKED: dict[str, Any] = {
    "user": mail("ann"),
    "duration": 3600.0,
    "team": None,
    "alias": None,
    "sink": None,
    "by": "ops",
}


def issued(home: Home, **asked: Any) -> dict[str, Any]:
    return home.run(home.core.commands(alone=False).issue_key(**{**ASKED, **asked}))


@both_dialects
def test_a_key_is_theirs_of_their_team_and_ends(ground: Ground) -> None:
    home = ground.at_work()
    made = issued(home, team="data", alias="ann-laptop")
    assert ground.company is not None
    (row,) = (row for row in ground.gateway.state()["keys"] if row["token"] == made["key_id"])
    assert (row["user_id"], row["team_id"]) == (ground.company.ann.user_id, "data")
    assert (row["key_alias"], row["expires"]) == ("ann-laptop", made["expires"])
    assert ground.used(made["key"]) == 200
    assert ground.entries(home, "key.issued") == [("cli/ops", "key.issued")]
    delivered = issued(home, sink="files", duration=None)
    assert (delivered["key"], delivered["expires"]) == (None, None)
    assert ground.works((ground.place / delivered["alias"]).read_text())
    assert teamkeys.undelivered(home.db) == []
    with pytest.raises(UsageError, match="called ann-laptop already"):
        issued(home, alias="ann-laptop")


def left(home: Home) -> None:
    home.offboard("ann")


def banned(home: Home) -> None:
    home.revoke("ann")


def groupless(home: Home) -> None:
    home.directory.part("Data", "ann")


def frozen(home: Home) -> None:
    home.write(lambda db: home.core.control.freeze(db, reason="test", by="ops"))


def fenced(home: Home) -> None:
    account = home.account_of("ann")
    home.run(home.core.gateway.edit_metadata(account, lambda user: {**(user.metadata or {}), "scim_active": False}))


def nothing(home: Home) -> None: ...


REFUSED: list[tuple[Callable[[Home], None], dict[str, Any], str]] = [
    (left, {}, "has left"),
    (banned, {}, "is revoked"),
    (groupless, {}, "has left"),
    (frozen, {}, "frozen"),
    (fenced, {}, "fenced"),
    (nothing, {"user": "nobody@example.com"}, "no source knows"),
    (nothing, {"team": "web"}, "not in team web"),
    (nothing, {"sink": "vault"}, "no \\[\\[sinks\\]\\] of the name"),
    (nothing, {"sink": "one"}, "has one place for all keys"),
    (nothing, {"alias": "ds-prod"}, "called ds-prod already"),
]


@pytest.mark.parametrize(("before", "asked", "said"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_nobody_else_gets_one(ground: Ground, before: Callable[[Home], None], asked: dict[str, Any], said: str) -> None:
    home = ground.at_work()
    before(home)
    since = ground.gateway.ready()
    with pytest.raises(IdsyncError, match=said):
        issued(home, **asked)
    assert ground.gateway.calls("/key/generate", since) == []


def test_what_cannot_be_handed_over_is_ended(ground: Ground) -> None:
    """A sink that fails, and somebody who leaves while their key is being made."""
    home = ground.at_work()
    (ground.place / "ann-laptop").mkdir()
    count = len(ground.gateway.state()["keys"])
    with pytest.raises(SinkFailed, match="no plain file"):
        issued(home, sink="files", alias="ann-laptop")
    assert len(ground.gateway.state()["keys"]) == count
    ground.gateway.break_with("/key/generate", delay=0.3, times=1)
    task = asyncio.run_coroutine_threadsafe(home.core.commands(alone=False).issue_key(**ASKED), home._loop)
    ground.gateway.wait_for_fault("/key/generate")
    home.directory.leave("ann")
    with pytest.raises(UsageError, match="has left"):
        task.result(30)
    assert ground.company is not None
    home.wait_until_verified("ann")
    assert ground.gateway.live_keys(ground.company.ann.user_id) == []
    assert teamkeys.undelivered(home.db) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--print",), "say how long the key works"),
        (("--duration", "1h", "--forever", "--print"), "say how long the key works"),
        (("--duration", "soon", "--print"), "is not a duration"),
        (("--duration", "1h"), "the secret is shown only once: add --print"),
        (("--duration", "1h", "--sink", "files", "--print"), "leave out --print"),
    ],
)
def test_what_the_command_line_refuses(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """Before anything is asked of anybody: there is neither a store nor a gateway."""
    settings = write_settings(tmp_path, "http://127.0.0.1:9")
    done = CliRunner().invoke(cli, ["-c", str(settings), "keys", "issue", "--user", mail("ann"), *words])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_nobody_rotates_what_is_not_there(ground: Ground) -> None:
    home = ground.open()
    commands = home.core.commands(alone=False)
    for alias, said in (("ds-test", "has the alias 'ds-test'"), ("ds-prod", "was never made")):
        with pytest.raises(NotFound, match=said):
            home.run(commands.rotate_key(alias=alias, by="ops"))


@pytest.mark.needs_file("so a command goes through its daemon")
def test_through_the_daemon_the_secret_reaches_who_asked_and_nobody_else(tmp_path: Path, gateway: Gateway) -> None:
    ground = Ground(tmp_path, gateway, None)  # type: ignore[arg-type]
    settings = write_settings(tmp_path, gateway.url, **ground.settings())
    with Home(settings) as home:
        founded(gateway, home)
        home.reconcile()
    first = ground.secret
    with Daemon(settings) as daemon:
        ask = ("keys", "issue", "--user", mail("ann"))
        made = idsync(settings, *ask, "--duration", "1h", "--print")
        secret = made.out.strip()
        assert (made.code, ground.used(secret)) == (0, 200)
        assert secret not in made.err
        rotated = idsync(settings, "keys", "rotate", "ds-prod", "--compromised", "--json")
        assert (rotated.code, rotated.json["rotated"], rotated.json["old_ends"]) == (0, True, [])
        assert (ground.works(first), ground.works(ground.secret)) == (False, True)
        planned = idsync(settings, "keys", "rotate", "ds-prod", "--dry-run")
        assert (planned.code, planned.out.count("would make a key")) == (3, 1)
        daemon.assert_discreet(first, secret, ground.secret)
        assert re.search(r'"event": "key.rotated"', daemon.said())
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("idsync.db*") if file.is_file())
    assert not any(one.encode() in kept for one in (first, secret, ground.secret))
