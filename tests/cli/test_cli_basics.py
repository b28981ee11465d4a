"""Help, exit codes and where things are printed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from idsync.cli.main import COMMANDS
from idsync.control import Control
from idsync.intake import Intake
from idsync.model import Origin
from idsync.store import ledger, people
from idsync.store.db import Db
from idsync.store.people import BlockedKey

from .site import ADMIN_KEY, Site, create, run

HEAVY = ("pydantic", "aiohttp", "starlette", "uvicorn", "scim2_models", "scim2_server", "sqlite_utils", "apscheduler")


def test_help_lists_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path, python=("-X", "importtime"))
    assert (done.returncode, "Exit codes:" in done.stdout) == (0, True)
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    from click.testing import CliRunner

    from idsync.cli.main import cli

    done = CliRunner().invoke(cli, [name, "--help"])
    assert (done.exit_code, done.output.startswith("Usage:")) == (0, True)


@pytest.mark.parametrize(
    "args",
    [("no-such-command",), ("status", "--no-such-option"), ("token", "new"), ("holds", "approve", "x")],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2_with_nothing_on_stdout(site: Site, args: tuple[str, ...]) -> None:
    done = site.run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_overriding_a_protection_needs_a_reason(site: Site) -> None:
    done = site.run("revoke", "ada", "--override-protection")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "idsync: --override-protection needs a --reason\n")


def test_a_bad_configuration_is_exit_2_with_every_problem_on_stderr(site: Site) -> None:
    site.config.write_text('typo = 1\n[server]\nport = 99999\n[routero]\nadmin_key = "sk-secret-99"\n')
    for args in (("config", "check"), ("serve",)):
        done = site.run(*args)
        assert (done.returncode, done.stdout) == (2, "")
        assert all(f"  {path}: " in done.stderr for path in ("typo", "server.port", "routero.admin_key"))
        assert "sk-secret-99" not in done.stderr


def test_a_configuration_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    done = run("-c", "absent.toml", "serve", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "absent.toml: no such file" in done.stderr


def test_the_configuration_is_found_by_the_environment_and_in_the_working_folder(site: Site, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    by_variable = run("config", "check", cwd=elsewhere, environ={"IDSYNC_CONFIG": str(site.config)})
    here = run("config", "check", cwd=site.folder)
    assert (by_variable.returncode, by_variable.stdout) == (0, f"{site.config}: ok\n")
    assert (here.returncode, here.stdout) == (0, "config.toml: ok\n")


def test_config_check_start_asks_whether_the_daemon_could_start(site: Site) -> None:
    (site.folder / "admin-key").unlink()
    done = site.run("config", "check", "--start")
    assert done.returncode == 2
    assert f"routero.admin_key_file: cannot read the secret: No such file or directory ({site.folder}/" in done.stderr
    assert site.run("config", "check").returncode == 0


def test_config_check_says_what_does_less_than_one_might_think(site: Site) -> None:
    site.config.write_text(site.config.read_text() + '[[teams]]\nalias = "web"\non_member_departure = "rotate"\n')
    text, data = site.run("config", "check"), site.json("config", "check")
    assert text.returncode == 0
    assert (
        'note: teams.web.on_member_departure: "rotate" is carried out for keys named in [[teams.keys]]' in text.stdout
    )
    assert "this team has none there" in text.stdout
    assert (data["ok"], data["problems"], [note["path"] for note in data["notes"]]) == (
        True,
        [],
        ["teams.web.on_member_departure"],
    )


def test_config_show_masks_secrets_and_says_where_each_value_came_from(site: Site) -> None:
    environ = {"IDSYNC_ROUTERO__ADMIN_KEY": "sk-from-environment", "IDSYNC_TEAMS__DATA__MAX_BUDGET": "7"}
    done = site.run("config", "show", "--json", **environ)
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(done.stdout)}
    assert rows["routero.admin_key"] == ("***", "environment IDSYNC_ROUTERO__ADMIN_KEY")
    assert rows["teams.data.max_budget"] == ("7.0", "environment IDSYNC_TEAMS__DATA__MAX_BUDGET")
    assert rows["routero.dialect"] == ("litellm", "file")
    assert rows["server.port"] == ("8080", "default")
    text = site.run("config", "show", **environ)
    assert "sk-from-environment" not in done.stdout + done.stderr + text.stdout + text.stderr


@pytest.mark.needs_file("is not there yet")
@pytest.mark.parametrize("args", [("status",), ("db", "check")])
def test_a_reading_command_before_there_is_a_store_says_so(site: Site, args: tuple[str, ...]) -> None:
    done = site.run(*args)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("idsync: there is no store at ")
    assert not site.store.exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("departures", "nobody"), "nobody is called 'nobody' here; `idsync departures` lists everybody who left"),
        (("reconcile", "--source", "entra"), "no polled source 'entra' (it has: none)"),
        (("holds", "approve", "h-0", "--checksum", "0"), "there is no open hold 'h-0'"),
        (("token", "new", "entra"), "no SCIM source 'entra' (it has: okta)"),
        (("restore", "nobody", "--reason", "x"), "there is no ban on 'nobody'"),
        (("groups", "bind", "nope", "g-0"), "no team or role 'nope'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_exit_1_with_a_sentence(site: Site, args: tuple[str, ...], said: str) -> None:
    site.fill(lambda db, intake, control: None)
    done = site.run(*args)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


HOLD = "import sys; from idsync.store.sqlite import SqliteStore as S; s = S(sys.argv[1]); s.open(); print(1, flush=True); input()"


@pytest.mark.needs_file("has one holder")
def test_a_store_that_another_process_holds_without_a_socket_is_exit_7(site: Site) -> None:
    line = [sys.executable, "-c", HOLD, site.url]
    with subprocess.Popen(line, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        writing, reading = site.run("token", "new", "okta"), site.run("status", "--json")
        holder.kill()
    assert (writing.returncode, writing.stdout) == (7, "")
    assert "another idsync process holds the store" in writing.stderr
    assert reading.returncode == 0


def test_a_socket_that_a_dead_daemon_left_behind_is_no_hindrance(site: Site) -> None:
    import socket

    folder = site.folder / "idsync.db.ctl"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "s"))
    assert site.token().startswith("idsync_")


def test_the_admin_key_never_reaches_a_terminal(site: Site) -> None:
    for args in (("revoke", "nobody"), ("--log-level", "debug", "reconcile")):
        done = site.run(*args)
        assert ADMIN_KEY not in done.stdout + done.stderr


def test_unlink_says_what_stays_fenced_and_blocked(site: Site) -> None:
    def work(db: Db, intake: Intake, control: Control) -> str:
        user = create(db, intake, "ada@example.com", Origin("okta", "token-1", 1.0))
        control.link(db, user.user_name, "u-bob", by="op")
        intake.delete_user(db, user, Origin("okta", "token-1", 1.0))
        departure = ledger.open_departure(db, user.person_id)
        assert departure is not None
        ledger.put_departure(db, replace(departure, fenced_at=2.0))
        people.note_blocked(db, BlockedKey("k-1", user.person_id, "u-bob", None, False, "sk-...1234", "ci"), 2.0)
        return departure.id

    departure = site.fill(work)
    said = site.run("unlink", "ada@example.com", "u-bob")
    assert said.returncode == 0, said.stderr
    assert f"idsync_fence={departure}" in said.stdout
    assert "still blocked: key ci" in said.stdout


def test_a_gateway_that_is_not_there_is_named_with_what_to_look_at(site: Site) -> None:
    done = site.run("teams", "list")
    assert done.returncode == 1
    said = f"idsync: no connection to the gateway ({site.gateway}); check routero.base_url and the network\n"
    assert done.stderr.replace("no connection to the gateway in time", "no connection to the gateway") == said
    [told] = [one for one in json.loads(site.run("doctor", "--json").stdout)["checks"] if one["check"] == "gateway"]
    assert told["says"].startswith(f"{site.gateway} (litellm): no connection to the gateway")
    assert (told["says"].count(site.gateway), told["remedy"]) == (1, "check routero.base_url and the network")


def test_keys_of_a_team_that_is_not_there_is_an_error_that_lists_those_that_are(served: Site) -> None:
    known, unknown = (served.run("keys", "list", "--team", team) for team in ("data", "nosuch"))
    assert (known.returncode, known.stdout) == (0, "no keys\n")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "idsync: there is no team 'nosuch' (there are: data)\n"
