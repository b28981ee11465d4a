"""Exit codes, audit actions and log events are told; the rooms of the contributors' page are those of the contract."""

from __future__ import annotations

import configparser
import importlib.util
import re
import sys
from types import ModuleType

import pytest

from .docs_pages import ROOT, text_of


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """The script that writes docs/exit-codes-and-events.md."""
    spec = importlib.util.spec_from_file_location("events_page", ROOT / "tools/events_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["events_page"] = module
    spec.loader.exec_module(module)
    return module


def section(page: str, title: str) -> str:
    _, _, rest = text_of(ROOT / page).partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def test_operations_says_what_every_audit_action_means(made: ModuleType) -> None:
    told = section("docs/operations.md", "The audit trail")
    actions = made.actions()
    assert {"user.deleted", "departure.settled", "hold.approved", "frozen", "team.create"} <= set(actions)
    assert [action for action in actions if f"`{action}`" not in told] == []


def test_no_action_is_told_that_nobody_writes(made: ModuleType) -> None:
    table = [line for line in section("docs/operations.md", "The audit trail").splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", line.split("|")[1])}
    assert named - set(made.actions()) == set()


def test_every_log_event_has_its_level(made: ModuleType) -> None:
    levels = made.events()
    assert (levels["daemon.ready"], levels["audit.chain_broken"]) == ({"info"}, {"critical"})
    assert all(levels.values())


def test_the_contributors_page_has_every_room_in_the_order_of_the_contract() -> None:
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:rooms"]["layers"]
    wanted = [re.findall(r"\w+", line) for line in layers.split("\n") if line.strip()]
    rows = [line.split("|")[1] for line in section("docs/architecture.md", "The rooms").splitlines() if "| `" in line]
    assert [sorted(re.findall(r"`(\w+)`", row)) for row in rows] == [sorted(rooms) for rooms in wanted]


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_the_runbooks_are_found(page: str) -> None:
    assert "runbooks.md" in text_of(ROOT / page)


def test_every_alarm_that_wakes_somebody_leads_to_a_runbook() -> None:
    """What is urgent now has a heading of its own to go to."""
    now = [
        line
        for line in section("docs/operations.md", "Metrics").splitlines()
        if line.count("|") == 4 and "| now" in line
    ]
    assert len(now) > 3
    assert [line for line in now if "](" not in line and "idsync is away" not in line] == []
