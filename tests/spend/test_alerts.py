"""Slack budget alerts of the gateway: as the configuration wants them, written once, the webhook shown to nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.daemon import Done
from support.fixtures import both_dialects
from support.gateway import Gateway
from support.settings import write_settings

from .place import stored, typed

WEBHOOK = "https://hooks.slack.example/services/T0/B0/verysecret"
Site = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, gateway: Gateway, dialect: str) -> Iterator[Site]:
    """Run a command on a configuration that wants alerts; `webhook` writes another one first.

    Whatever was printed or stored, the webhook is not in it.
    """
    file, said = tmp_path / "webhook", []
    file.write_text(WEBHOOK)
    alerts = {"budget_alerts": True, "slack_webhook_file": str(file)}
    settings = write_settings(tmp_path, gateway.url, routero={"dialect": dialect}, alerts=alerts)

    def run(*words: str, webhook: str = WEBHOOK) -> Done:
        file.write_text(webhook)
        with capture_logs() as told:
            done = typed(settings, *words)
        said.append(f"{done.out}{done.err}{told}")
        return done

    yield run
    assert "verysecret" not in "".join(said)
    assert b"verysecret" not in stored(tmp_path)


def alerts(done: Done) -> list[dict[str, Any]]:
    return [change for change in done.json["changes"] if change["kind"] == "alerts.set"]


def config(gateway: Gateway) -> tuple[Any, Any]:
    """Return where the gateway sends alerts, and by which webhook."""
    held = gateway.state()["config"]
    general, variables = held.get("general_settings", {}), held.get("environment_variables", {})
    return general.get("alerting"), variables.get("SLACK_WEBHOOK_URL")


def writes(gateway: Gateway) -> int:
    return len(gateway.calls("/config/update"))


@both_dialects
def test_they_are_shown_set_and_left_alone(run: Site, gateway: Gateway) -> None:
    (shown,) = alerts(run("reconcile", "--dry-run", "--json"))
    assert (shown["fields"], config(gateway)) == ({"alerting": ["slack"]}, (None, None))
    assert run("reconcile").code == 0
    assert config(gateway) == (["slack"], WEBHOOK)
    again = run("reconcile", "--dry-run", "--json")
    assert (again.code, alerts(again)) == (0, [])
    run("reconcile")
    assert writes(gateway) == 1
    trail = map(json.loads, run("audit", "tail", "--json").out.splitlines())
    assert [entry["actor"] for entry in trail if entry["action"] == "alerts.set"] == ["reconcile"]


@both_dialects
def test_another_webhook_in_the_configuration_is_written(run: Site, gateway: Gateway) -> None:
    run("reconcile")
    other = f"{WEBHOOK}-2"
    assert run("reconcile", webhook=other).code == 0
    assert (config(gateway), writes(gateway)) == ((["slack"], other), 2)


def test_what_is_there_besides_stays(run: Site, gateway: Gateway) -> None:
    there = {"alerting": ["email"], "alert_types": ["llm_exceptions"], "max_parallel_requests": 7}
    gateway.ok("/config/update", {"general_settings": there, "environment_variables": {"SMTP_HOST": "mail"}})
    run("reconcile")
    assert gateway.state()["config"] == {
        "general_settings": {**there, "alerting": ["email", "slack"]},
        "environment_variables": {"SMTP_HOST": "mail", "SLACK_WEBHOOK_URL": WEBHOOK},
    }
    (more,) = alerts(run("reconcile", "--json"))
    assert more["why"] == "Slack is not told of budgets"
    assert gateway.state()["config"]["general_settings"]["alert_types"] == ["llm_exceptions", "budget_alerts"]
    assert alerts(run("reconcile", "--json")) == []


def test_what_somebody_switched_off_is_put_back(run: Site, gateway: Gateway) -> None:
    run("reconcile")
    gateway.ok("/config/update", {"general_settings": {"alerting": ["email"]}})
    run("reconcile")
    assert config(gateway) == (["email", "slack"], WEBHOOK)


def test_a_gateway_that_says_yes_and_does_nothing(run: Site, gateway: Gateway) -> None:
    gateway.fault(path="/config/update", lie=True)
    done = run("reconcile")
    assert done.code == 1
    assert "failed: [alerts]: the gateway said that it was done, and does not show" in done.out


@both_dialects
def test_a_gateway_without_the_endpoint_is_said_and_not_asked_again(run: Site, gateway: Gateway) -> None:
    gateway.fault(path="/config/update", status=404)
    first, later = run("reconcile"), run("reconcile")
    assert (first.code, later.code) == (1, 0)
    for done in (first, later):
        assert "[alerts]: this gateway has no POST /config/update" in done.out
    assert writes(gateway) == 1


def test_an_error_that_repeats_the_webhook_shows_it_to_nobody(run: Site, gateway: Gateway) -> None:
    """What was printed and stored is looked through when the test ends."""
    body = f'{{"error": {{"message": "cannot take {WEBHOOK}", "type": "x", "param": null, "code": "400"}}}}'
    gateway.fault(path="/config/update", status=400, body=body, content_type="application/json")
    done = run("reconcile")
    assert (done.code, "cannot take ***" in done.out) == (1, True)


@pytest.mark.parametrize("webhook", ["http://hooks.slack.example/verysecret", "verysecret"])
def test_what_is_no_address_is_said_and_keeps_nothing_else_from_being_done(
    run: Site, webhook: str, gateway: Gateway
) -> None:
    """Nobody's access hangs on it: teams are set up, leavers leave."""
    done = run("reconcile", webhook=webhook)
    assert (done.code, writes(gateway)) == (0, 0)
    assert "note: [alerts]: alerts.slack_webhook_file: holds no https:// address" in done.out
    assert {team["team_id"] for team in gateway.state()["teams"]} == {"data", "web"}


@pytest.mark.parametrize(
    "shown", [{"alerts": [{"name": ["slack"]}]}, {"alerts": [{"name": {}}, None, 7]}, {"alerts": {}}]
)
def test_an_odd_answer_about_alerts_keeps_nothing_else_from_being_done(
    run: Site, shown: dict[str, Any], gateway: Gateway
) -> None:
    gateway.fault(
        path="/get/config/callbacks", status=200, body=json.dumps(shown), content_type="application/json", times=1
    )
    assert run("reconcile").code == 0
    assert {team["team_id"] for team in gateway.state()["teams"]} == {"data", "web"}
    assert config(gateway)[1] == WEBHOOK
