"""No secret of anybody is anywhere but in its own file; and whoever does something is named by the kernel, not by themselves."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, idsync
from support.directory import ScimDirectory
from support.gateway import Gateway
from support.settings import write_settings
from support.stores import SHARED
from support.waiting import until

from idsync.localuser import accountable
from idsync.sandbox.graph.service import TENANT
from idsync.sandbox.server import Options, Sandbox

CANARIES = {
    "admin.key": "sk-canary-of-the-admin-key-5d1c",
    "source.token": "canary-of-the-scim-token-77aa",
    "okta.token": "canary-of-the-okta-token-90be",
    "graph.secret": "canary-of-the-graph-secret-12cd",
    "slack.webhook": "https://hooks.example.com/canary-of-the-webhook-34ef",
}
"""By the file each is in. Only the admin key looks like a secret: the gateway wants it so."""
RAW = "sk-canary-of-a-virtual-key-55ee"
ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def there() -> Iterator[Gateway]:
    with Sandbox(Options(admin_key=CANARIES["admin.key"])) as running:
        yield Gateway(running)


@pytest.fixture
def settings(tmp_path: Path, there: Gateway) -> Path:
    """Everything that has a secret is configured; Okta and Entra refuse theirs."""
    path = {name: str(tmp_path / name) for name in CANARIES}
    entra = {"authority": there.sandbox.entra_url, "graph_url": there.sandbox.graph_url, "tenant_id": TENANT}
    okta = {"name": "poll", "idp": "okta", "org_url": there.sandbox.okta_url, "api_token_file": path["okta.token"]}
    graph = {"name": "entra", "client_id": "app", "client_secret_file": path["graph.secret"], **entra}
    file = write_settings(
        tmp_path,
        there.url,
        scim={"sources": [{"name": "okta", "token_file": path["source.token"], "trust_email": True}]},
        sources={"okta": [okta], "graph": [graph]},
        alerts={"slack_webhook_file": path["slack.webhook"], "budget_alerts": True},
    )
    for name, secret in CANARIES.items():
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    return file


def at_the_socket(settings: Path, command: str, params: Any) -> tuple[int, Any]:
    """Send a command to the daemon as somebody would who does not use our command line."""
    with closing(http.client.HTTPConnection("localhost")) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(settings.parent / "idsync.db.ctl" / "s"))
        connection.request("POST", f"/v1/{command}", json.dumps(params))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


COMMANDS = ("status --json", "departures --json", "doctor --json", "config show", "audit tail --json")


def everything_said(settings: Path, daemon: Daemon, *commands: str) -> dict[str, bytes]:
    """Return what commands print, what the operations port shows, and every file but those that hold the secrets."""
    said: dict[str, bytes] = {}
    for words in commands:
        done = idsync(settings, *words.split())
        said[words] = f"{done.out}{done.err}".encode()
    address = daemon.operations.removeprefix("http://")
    for page in ("/metrics", "/health", "/"):
        with closing(http.client.HTTPConnection(address)) as connection:
            connection.request("GET", page)
            said[page] = connection.getresponse().read()
    files = [path for path in settings.parent.rglob("*") if path.is_file() and path.name not in CANARIES]
    return said | {path.name: path.read_bytes() for path in files}


def assert_discreet(said: dict[str, bytes]) -> None:
    secrets = [*CANARIES.values(), RAW]
    assert [(where, secret) for where, text in said.items() for secret in secrets if secret.encode() in text] == []


def test_no_secret_is_written_anywhere_in_trouble_a_crash_and_a_kill(settings: Path, there: Gateway) -> None:
    holder = there.account("leo")
    there.hook("seed", {"keys": [{"key": RAW, "user_id": holder.user_id}]})
    echo = json.dumps({"error": {"message": f"bad call by {CANARIES['admin.key']} about {RAW}", "code": "400"}})
    with Daemon(settings) as daemon:
        directory = ScimDirectory(daemon.scim, CANARIES["source.token"])
        directory.hire("leo", "Data")
        until(lambda: "data" in there.teams_with(holder.user_id), "leo is in data", told=daemon.said)
        there.fault(path="/key/block", status=400, content_type="application/json", body=echo, times=2)
        there.fault(path="/user/update", status=500, body=f"Traceback: {CANARIES['admin.key']} {RAW}", times=1)
        directory.leave("leo")
        there.wait_until_ended(holder.user_id)
        if not SHARED:  # there is no such socket beside a database
            status, crashed = at_the_socket(settings, "revoke", {"user": [RAW], "reason": RAW, "by": "x"})
            assert (status, crashed["exit_code"]) == (500, 1)
        until(lambda: len([one for one in daemon.events() if one["event"] == "source.failed"]) >= 2, "both IdPs refuse")
        assert SHARED or "local.crashed" in daemon.said()
        assert_discreet(everything_said(settings, daemon, *COMMANDS))
        daemon.kill()
        daemon.start()
        assert_discreet(everything_said(settings, daemon))
        daemon.terminate()
        assert daemon.exit_code() == 0
    assert_discreet({"stderr": daemon.said().encode()})


@pytest.mark.needs_file("has a daemon that commands speak to")
def test_whoever_acts_is_named_by_the_kernel(settings: Path) -> None:
    (settings.parent / "graph.secret").chmod(0o644)
    with Daemon(settings) as daemon:
        assert at_the_socket(settings, "freeze", {"reason": "a try", "by": "mallory"})[0] == 200
        status, refused = at_the_socket(settings, "thaw", {"reason": "nobody says who"})
        assert (status, refused["exit_code"]) == (409, 2)
        assert idsync(settings, "thaw", "--reason", "done").code == 0
        trail = [json.loads(line) for line in idsync(settings, "audit", "tail", "--json").out.splitlines()]
    by = {entry["action"]: entry["actor"] for entry in trail if entry["action"] in ("frozen", "thawed")}
    assert by == {"frozen": f"cli/{ME}", "thawed": f"cli/{ME}"}
    [told] = [one for one in daemon.events() if one["event"] == "secret.readable"]
    assert told["setting"] == "sources.graph.entra.client_secret_file"


@pytest.mark.parametrize(
    ("uid", "claimed", "written"),
    [
        (0, "root (sudo by ada)", "root (sudo by ada)"),
        (0, "ada", "root"),
        (0, "root (sudo by ada\n)", "root"),
        (0, None, "root"),
        (4242424, "root (sudo by ada)", "uid 4242424"),
        (4242424, "uid 4242424 (sudo by ada)", "uid 4242424"),
    ],
)
def test_root_alone_may_add_for_whom_it_acts(uid: int, claimed: Any, written: str) -> None:
    assert accountable(uid, claimed) == written
