"""The demo is the promise in small: it has to end by itself and to fail when a key survives."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request

import pytest

DEMO = [sys.executable, "-m", "idsync", "demo"]


@pytest.fixture(scope="module")
def played() -> subprocess.CompletedProcess[str]:
    return subprocess.run(DEMO, capture_output=True, text=True, timeout=110, check=False)


def test_it_ends_by_itself_and_well(played: subprocess.CompletedProcess[str]) -> None:
    assert played.returncode == 0, played.stdout + played.stderr
    assert "FAILED" not in played.stdout


def test_the_control_shows_a_deleted_key_that_works(played: subprocess.CompletedProcess[str]) -> None:
    controls = re.findall(r"replicas answer (.+?)  ->", played.stdout)
    assert controls == ["refused works works", "refused works works"]


def test_every_key_of_every_leaver_is_refused_everywhere(played: subprocess.CompletedProcess[str]) -> None:
    rows = re.findall(r"  after:  \S+ +(.+)", played.stdout)
    assert len(rows) == 10
    assert set(rows) == {"refused refused refused"}


def test_both_gateways_are_played(played: subprocess.CompletedProcess[str]) -> None:
    assert "POST   /key/delete" in played.stdout
    assert "DELETE /key/delete" in played.stdout
    assert "no fence" in played.stdout


def test_no_secret_is_printed(played: subprocess.CompletedProcess[str]) -> None:
    assert not re.search(r"sk-[A-Za-z0-9]{6}|idsync_[A-Za-z0-9]{16}", played.stdout + played.stderr)


def test_kept_running_it_serves_what_it_prints_and_stops_on_an_interrupt() -> None:
    with subprocess.Popen([*DEMO, "--keep"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        told: dict[str, str] = {}
        for line in child.stdout:
            name, _, rest = line.partition(" ")
            told[name] = rest.strip()
            if line.startswith("Ctrl-C"):
                break
        base, token = told["SCIM"].split()[0], told["token"]
        asked = urllib.request.Request(f"{base}/Users", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.status == 200
        child.send_signal(signal.SIGINT)
        assert child.wait(40) == 0
