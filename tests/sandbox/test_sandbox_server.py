"""Starting and stopping."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from itertools import takewhile
from typing import Any

import pytest

from idsync.sandbox.graph import service as graph
from idsync.sandbox.okta import service as okta
from idsync.sandbox.server import Options, Sandbox, create_app

from .client import ADMIN, Client


@pytest.mark.parametrize(
    "wrong",
    [{"host": "0.0.0.0"}, {"dialect": "openai"}, {"broadcast": "radio"}, {"replicas": 0}, {"clock": "sun"}],  # noqa: S104
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Options(**wrong)


def test_urls_and_the_end() -> None:
    with Sandbox(Options(replicas=2)) as sandbox:
        assert sandbox.replica_urls == [f"{sandbox.url}/replica/0", f"{sandbox.url}/replica/1"]
        assert Client(sandbox).get("/team/list", replica=1).body == []
    with pytest.raises(ConnectionRefusedError):
        Client(sandbox).get("/team/list")


def test_it_stops_with_calls_hanging_and_connections_open() -> None:
    with Sandbox() as sandbox:
        client = Client(sandbox)
        client.fault(path="/team/list", hang=True)
        host, port = sandbox.url.removeprefix("http://").split(":")
        waiting, idle = (socket.create_connection((host, int(port)), timeout=5) for _ in range(2))
        waiting.sendall(b"GET /team/list HTTP/1.1\r\nHost: x\r\n\r\n")
        while not client.log():
            pass
    with waiting, idle:
        assert (waiting.recv(10), idle.recv(10)) == (b"", b"")


def test_latency_delays_management_only() -> None:
    with Sandbox(Options(latency=0.3)) as sandbox:
        with pytest.raises(TimeoutError):
            Client(sandbox).get("/team/list", timeout=0.1)
        assert Client(sandbox).get("/v1/models", timeout=0.25).status == 200


def test_the_application_can_be_served_otherwise() -> None:
    paths = {getattr(route, "path", "") for route in create_app(Options()).routes}
    assert "/_sandbox/state" in paths


def test_in_the_foreground() -> None:
    command = [sys.executable, "-m", "idsync.sandbox", "--dialect", "routero", "--replicas", "1", "--no-fence"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, *rest = process.stdout.readline().split()
        assert rest[-1] == ADMIN
        with urllib.request.urlopen(f"{url}/health/liveliness") as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_foreground_refuses_other_hosts() -> None:
    command = [sys.executable, "-m", "idsync.sandbox", "--host", "0.0.0.0"]  # noqa: S104
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    assert (done.returncode, "loopback only" in done.stderr) == (2, True)


def test_the_command_tells_where_everything_is_and_with_which_credentials() -> None:
    command = [sys.executable, "-m", "idsync", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = "".join(takewhile(lambda line: not line.startswith("request logs"), process.stdout))
        finally:
            process.terminate()
            process.wait(10)
    url = re.findall(r"at (http://127\.0\.0\.1:\d+)  admin key sk-", told)[0]
    assert f"okta at {url}/okta  SSWS token {okta.TOKEN}\n" in told
    assert f"graph at {url}/graph  authority {url}/entra/{graph.TENANT}\n" in told
    assert {graph.CLIENT, graph.SECRET, f"IDENTITY_ENDPOINT={url}/entra/msi/token"} <= set(told.split())
    assert process.returncode == 0
