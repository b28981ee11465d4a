"""A running daemon is told: SIGHUP, SIGUSR1, SIGTERM; and what it tells systemd."""

from __future__ import annotations

import asyncio
import queue
import signal
import socket
import sqlite3
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.company import Company, founded
from support.daemon import Daemon, idsync
from support.directory import mail
from support.editor import refuse_entries
from support.fixtures import Opener, _sandboxes, dialect, gateway, opened  # noqa: F401
from support.gateway import Gateway
from support.home import Home
from support.polled import Polled
from support.settings import DATA, SOURCE, WEB, store_url, write_settings
from support.waiting import until

from idsync import config
from idsync.app.reload import reload, taken_over
from idsync.app.supervisor import Supervisor
from idsync.config import LIVE, differing, restart_tables
from idsync.config.tables import Config
from idsync.errors import ConfigError
from idsync.snapshot import Snapshot

# ruff: noqa: F811


class Listener:
    """The socket on which systemd would listen, and read at once, as it does."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._heard: queue.Queue[str] = queue.Queue()
        self.beats = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (message := self._socket.recv(4096).decode()) != "":
            if message == "WATCHDOG=1":
                self.beats += 1
            else:
                self._heard.put(message)

    def next(self) -> list[str]:
        """Return the lines of the next message that is no sign of life."""
        return self._heard.get(timeout=30).splitlines()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture(params=["@idsync-test-{pid}", "{folder}/notify"], ids=["abstract", "path"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(pid=tmp_path.name, folder=tmp_path)


@pytest.fixture
def systemd(address: str) -> Iterator[Listener]:
    with closing(Listener(address)) as listener:
        yield listener


def test_systemd_hears_of_a_stop_at_any_address(address: str, systemd: Listener) -> None:
    Supervisor({"NOTIFY_SOCKET": address}).stopping()
    assert systemd.next()[0] == "STOPPING=1"


def test_without_systemd_nothing_is_said_and_a_socket_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    Supervisor({}).stopping()
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).stopping()


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway) -> Path:
    return write_settings(tmp_path, gateway.sandbox.url)


def metric(daemon: Daemon, name: str) -> float:
    with urllib.request.urlopen(f"{daemon.operations}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


OPS = {"alias": "ops", "groups": ["Ops"]}


def test_a_daemon_follows_its_configuration_and_tells_systemd(tmp_path: Path, settings: Path, gateway: Gateway) -> None:
    """From start to stop: a bad file, a good one that gives, one that takes, a pass asked for, the end."""
    with Home(settings) as home:
        company = founded(gateway, home)
    address = f"@idsync-{tmp_path.name}"
    with (
        closing(Listener(address)) as systemd,
        Daemon(settings, NOTIFY_SOCKET=address, WATCHDOG_USEC="200000") as daemon,
    ):
        assert systemd.next() == ["READY=1", f"STATUS=serving SCIM at {daemon.scim}"]
        until(lambda: systemd.beats >= 2, "signs of life")
        _a_bad_file_changes_nothing(tmp_path, daemon, gateway, systemd)
        _what_can_be_changed_is(tmp_path, daemon, gateway, systemd)
        _what_a_change_alone_would_take_is_held(tmp_path, daemon, company)
        gateway.ok("/team/member_delete", {"team_id": "data", "user_id": "u-ann"})
        daemon.signal(signal.SIGUSR1)
        daemon.wait_for_event("pass.asked_for")
        gateway.wait_for_member("data", "u-ann")
        daemon.terminate()
        assert [systemd.next()[0] for _ in range(5)] == ["RELOADING=1", "READY=1"] * 2 + ["STOPPING=1"]
        assert daemon.exit_code() == 0
    daemon.assert_discreet(*company.all_secrets)


def _a_bad_file_changes_nothing(folder: Path, daemon: Daemon, gateway: Gateway, systemd: Listener) -> None:
    write_settings(folder, gateway.sandbox.url, teams=[DATA, WEB, OPS], guard={"max_departures": 0})
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.signal(signal.SIGHUP)
    told = systemd.next()
    assert told[0] == "RELOADING=1"
    assert before <= int(told[1].removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert systemd.next()[0] == "READY=1"
    (problem,) = daemon.wait_for_event("config.refused")["problems"]
    assert problem.startswith("guard.max_departures: ")
    assert metric(daemon, "idsync_config_last_reload_successful") == 0


def _what_can_be_changed_is(folder: Path, daemon: Daemon, gateway: Gateway, systemd: Listener) -> None:
    write_settings(folder, gateway.sandbox.url, teams=[DATA, WEB, OPS], server={"port": 1}, routero={"timeout": "3s"})
    daemon.signal(signal.SIGHUP)
    assert daemon.wait_for_event("config.reloaded")["changed"] == ["teams.ops"]
    assert daemon.wait_for_event("config.needs_restart")["keys"] == [
        "routero.timeout",
        "server.port",
        "server.public_url",
    ]
    assert [systemd.next()[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]
    until(lambda: "ops" in [team["team_id"] for team in gateway.state()["teams"]], "the new team is there")
    assert metric(daemon, "idsync_config_last_reload_successful") == 1


def _what_a_change_alone_would_take_is_held(folder: Path, daemon: Daemon, company: Company) -> None:
    gateway = company.gateway
    write_settings(folder, gateway.sandbox.url, teams=[{**DATA, "groups": ["Other"]}, WEB, OPS])
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_event("config.reloaded", 2)
    (hold,) = idsync(daemon.settings, "holds", "list", "--json").json
    assert (hold["kind"], len(hold["people"])) == ("configuration", 2)
    gateway.assert_at_work(company.leo, "data")
    write_settings(folder, gateway.sandbox.url, teams=[DATA, WEB, OPS])
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_event("config.reloaded", 3)
    until(lambda: idsync(daemon.settings, "holds", "list", "--json").json == [], "the hold is empty and gone")


def test_if_the_store_refuses_the_old_rules_go_on(opened: Opener) -> None:
    home = opened(working=False)
    before, core = home.core.intake.rules, home.core
    wanted = core.config.model_copy(update={"teams": ()})
    refuse_entries(store_url(opened.settings))
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.CheckViolation)):
        home.run(reload(core, wanted))
    assert core.intake.rules is before
    assert core.config is not wanted
    assert core.engine.rules is before


def test_what_a_token_file_holds_counts_after_a_reload(opened: Opener, tmp_path: Path) -> None:
    core = (home := opened(working=False)).core
    (tmp_path / "source.token").write_text("another-token-of-that-source-0123456789")
    home.run(reload(core, core.config))
    rows = home.db.all("SELECT revoked_at IS NULL AS live FROM tokens ORDER BY created_at")
    assert [row["live"] for row in rows] == [0, 1]


class Interrupted(Polled):
    """A source whose listing takes so long that something happens meanwhile."""

    meanwhile: Callable[[], Awaitable[None]]

    async def snapshot(self, *asked: Any) -> Snapshot:
        listed = await super().snapshot(*asked)
        await self.meanwhile()
        return listed


def test_a_poll_under_way_ends_with_the_rules_it_began_with(opened: Opener, tmp_path: Path) -> None:
    """Else it would note that it has listed a group it has never asked for, and nobody would for a day."""
    source = Interrupted()
    source.hire("ann", "Ops")
    entry = {"name": source.name, "org_url": "https://a.okta.com", "api_token_file": str(tmp_path / "admin.key")}
    home = opened(polled={source.name: source}, scim={"sources": []}, sources={"okta": [entry]}, teams=[DATA])
    wanted = Config.model_validate(home.core.config.model_dump() | {"teams": [DATA, OPS]})

    async def meanwhile() -> None:
        await reload(home.core, wanted)

    source.meanwhile = meanwhile
    home.poll(source.name)
    source.meanwhile = source.close
    assert home.poll(source.name, "recent").kind == "full"
    assert home.person("ann").label == mail("ann")


@pytest.fixture
def running(settings: Path) -> Config:
    return config.load(str(settings), {}).config


def test_every_table_is_taken_over_or_named(running: Config) -> None:
    assert {*LIVE, *restart_tables()} == set(Config.model_fields)
    assert set(LIVE).isdisjoint(restart_tables())
    assert "scim" in restart_tables()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree["scim"]["sources"].append({"name": "new"}) or tree["teams"][0].update(groups=["new/Data"]),
         "teams.data.groups: 'new/Data' names a source that is another after a restart"),
        (lambda tree: tree["scim"]["sources"].append({"name": "new"}) or tree["teams"][0].update(admins=["new/Leads"]),
         "teams.data.admins: 'new/Leads' names a source that is another after a restart"),
        (lambda tree: tree["teams"][0].update(groups=[f"{SOURCE}/Data"]), ""),
    ],
    ids=["a source that only a restart brings", "for a team's admins", "one that is there"],
)  # fmt: skip
def test_groups_of_a_source_that_is_not_there_yet_are_refused(
    running: Config, change: Callable[[Any], None], said: str
) -> None:
    tree = running.model_dump()
    tree["teams"] = list(tree["teams"])
    tree["scim"]["sources"] = list(tree["scim"]["sources"])
    change(tree)
    wanted = Config.model_validate(tree)
    if said:
        with pytest.raises(ConfigError, match=said):
            taken_over(running, wanted)
    else:
        assert differing(running, taken_over(running, wanted)) == ["teams.data.groups"]


def test_a_pass_under_way_ends_before_anything_changes(opened: Opener, gateway: Gateway) -> None:
    """It may be in the middle of a team that the new configuration does not name."""
    home = opened(working=False)
    core, before = home.core, home.core.intake.rules
    gateway.break_with("/v2/team/list", delay=0.3)
    wanted = core.config.model_copy(update={"teams": ()})

    async def both() -> tuple[bool, bool]:
        under_way = asyncio.create_task(core.reconciler.apply())
        await asyncio.sleep(0)  # it begins
        reloading = asyncio.create_task(reload(core, wanted))
        await under_way
        first = core.intake.rules is before
        await reloading
        return first, core.intake.rules is before

    assert home.run(both()) == (True, False)
