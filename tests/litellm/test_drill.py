"""The drill, where nothing but addresses is known: a canary goes in over SCIM, and its own keys are tried at every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.daemon import Daemon, idsync
from support.settings import write_settings
from support.waiting import until

from .place import Place, Proxy

PATIENCE = "60"
"""Seconds a deleted key may live on: above the cache time of any proxy these tests are held at."""


def test_a_drill_measures_the_gateway_and_leaves_nothing(
    place: Place, gateway: Proxy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    routero = {"dialect": "litellm", "replica_urls": list(place.doors), "cache_time": "1s"}
    settings = write_settings(tmp_path, place.url, admin_key=place.admin_key, routero=routero)
    with Daemon(settings) as daemon:
        until(lambda: [event for event in daemon.events() if event["event"] == "pass.done"], "the first pass")
        done = idsync(settings, "drill", "--json", "--timeout", PATIENCE)
    assert (done.code, done.json["problems"]) == (0, []), done.err
    if place.real:
        with capsys.disabled():
            print(f"\n{_measured(done.json)}")
    assert done.json["fence"]["verdict"] == "proven"
    assert [entry["url"] for entry in done.json["replicas"]] == list(place.doors)
    assert all(entry["chain_seconds"] and entry["deletion_seconds"] for entry in done.json["replicas"])
    left = gateway.state()
    assert [row["user_id"] for row in left["users"] if "drill" in str(row["user_email"]) + row["user_id"]] == []
    assert left["keys"] == []
    daemon.assert_discreet(place.admin_key)


def _measured(report: dict[str, Any]) -> str:
    """Say what this gateway is like: seconds until each process refused a key."""
    acts = ("chain_seconds", "fence_seconds", "deletion_seconds")
    rows = (
        ", ".join(f"{act.removesuffix('_seconds')} {entry[act]:.2f} s" for act in acts) for entry in report["replicas"]
    )
    return "drill, by process: " + "; ".join(rows)
