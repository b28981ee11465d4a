"""`idsync spend`: by team, against its budget, as the gateway tells it; and plainly where it does not."""

from __future__ import annotations

import csv
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.fixtures import both_dialects
from support.gateway import Gateway
from support.settings import write_settings

from idsync.cli.spend import bar
from idsync.errors import BadAnswer
from idsync.gateway.spent import days_from, of_one

from .place import rows_of, typed

TODAY = datetime.now(UTC).date()
BEFORE = TODAY - timedelta(days=1)
SPAN = ("--from", BEFORE.isoformat(), "--to", TODAY.isoformat())


@pytest.fixture
def settings(tmp_path: Path, gateway: Gateway, dialect: str) -> Path:
    """Two teams with budgets and past spend; no daemon, and no store."""
    budgets = {"budget_duration": "1mo", "budget_reset_at": None}
    gateway.team("data", max_budget=2000.0, spend=500.0, **budgets)
    gateway.team("web", max_budget=100.0, spend=130.0, **budgets)
    gateway.team("odd", team_alias="=HYPERLINK(1)")
    used = [("data", BEFORE, 30.0), ("data", TODAY, 12.5), ("web", TODAY, 7.0), (None, TODAY, 2.0)]
    rows = [{"team_id": team, "date": day.isoformat(), "spend": amount} for team, day, amount in used]
    gateway.hook("seed", {"usage": rows})
    return write_settings(tmp_path, gateway.url, routero={"dialect": dialect})


@pytest.mark.needs_file("there is none yet, and so no store")
@both_dialects
def test_teams_against_their_budgets(settings: Path, dialect: str) -> None:
    told = typed(settings, "spend", "--json", *SPAN)
    data, web, odd = rows_of(told)
    assert told.code == 0
    assert told.json["told_by"] == f"GET /{'billing/daily-spend' if dialect == 'routero' else 'team/daily/activity'}"
    assert (data["spend"], data["budget_spend"], data["max_budget"], data["used"]) == (42.5, 500.0, 2000.0, 0.25)
    assert data["days"] == {BEFORE.isoformat(): 30.0, TODAY.isoformat(): 12.5}
    assert (web["team"], web["used"], odd["used"]) == ("web", 1.3, None)
    assert (told.json["total"], told.json["elsewhere"]) == (51.5, 2.0)
    assert told.json["after_departure"] is None


@pytest.mark.needs_file("there is none yet, and so no store")
def test_plain_text_and_csv(settings: Path) -> None:
    plain = typed(settings, "spend", *SPAN)
    assert "500.00 (25%)" in plain.out
    assert not set(plain.out) & set("█·▁")
    table = typed(settings, "spend", "--csv", *SPAN)
    rows = {row["team_id"]: row for row in csv.DictReader(table.out.splitlines())}
    assert (rows["data"]["spend"], rows["data"]["max_budget"]) == ("42.5", "2000.0")
    assert rows["odd"]["team"] == "'=HYPERLINK(1)", "no formula for a spreadsheet"
    assert "there is no store here" in table.err
    assert [row["team"] for row in rows_of(typed(settings, "spend", "--json", "--team", "web", *SPAN))] == ["web"]


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--team", "nobody"), 1), (("--from", "2026-03-02", "--to", "2026-03-01"), 2), (("--csv", "--json"), 2)],
)
def test_what_cannot_be_asked(settings: Path, words: tuple[str, ...], code: int) -> None:
    assert typed(settings, "spend", *words).code == code


def test_a_chart_on_a_terminal(settings: Path) -> None:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "idsync", "-c", str(settings), "spend", *SPAN]
    with subprocess.Popen(line, stdout=theirs, stderr=subprocess.DEVNULL, cwd=settings.parent) as process:
        os.close(theirs)
        drawn = b""
        try:
            while some := os.read(ours, 65536):
                drawn += some
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        assert process.wait(30) == 0
    shown = drawn.decode()
    assert "[█████···············]" in shown
    assert "OVER" in shown


@pytest.mark.parametrize("dialect", ["routero"], indirect=True)
def test_an_answer_that_cannot_be_understood_is_said_and_the_next_one_asked(settings: Path, gateway: Gateway) -> None:
    strange = {"path": "/billing/daily-spend", "status": 200, "content_type": "application/json"}
    gateway.fault(**strange, body='{"chart": "iVBORw0KGgo"}')
    told = typed(settings, "spend", "--json", *SPAN).json
    assert (told["told_by"], told["total"]) == ("GET /team/daily/activity", 51.5)
    assert told["notes"] == [
        "GET /billing/daily-spend: billing/daily-spend: the answer cannot be understood: it holds no list of days"
    ]
    gateway.fault(path="/team/daily/activity", status=404)
    counted = typed(settings, "spend", "--json", *SPAN)
    assert counted.code == 0
    assert [(row["spend"], row["budget_spend"]) for row in rows_of(counted)][:2] == [(None, 500.0), (None, 130.0)]
    assert "each team's own count" in counted.json["notes"][-1]


def test_many_rows_are_read_page_by_page(settings: Path, gateway: Gateway) -> None:
    day = TODAY.isoformat()
    rows = [{"team_id": "data", "date": day, "spend": 1.0, "model": f"m-{number}"} for number in range(1200)]
    gateway.hook("seed", {"usage": rows})
    assert rows_of(typed(settings, "spend", "--json", "--from", day))[0]["spend"] == 1212.5
    assert len(gateway.calls("/team/daily/activity")) == 3


UNDERSTOOD = {
    "LiteLLM's": {"results": [{"date": "2026-03-01", "metrics": {"spend": 3}, "breakdown": {"entities": {"a": {"metrics": {"spend": 3}}}}}]},
    "flat groups": {"results": [{"date": "2026-03-01", "spend": 3, "breakdown": {"teams": {"a": {"spend": 3}}}}]},
    "groups of numbers": [{"day": "2026-03-01T00:00:00Z", "cost": "3.0", "teams": {"a": 3}}],
    "a list of groups": {"data": [{"date": "2026-03-01", "amount": 3, "teams": [{"team_id": "a", "spend": 3}]}]},
    "a row a team": {"days": [{"date": "2026-03-01", "total_spend": 3, "team_id": "a"}]},
}  # fmt: skip


@pytest.mark.parametrize("answer", UNDERSTOOD.values(), ids=UNDERSTOOD.keys())
def test_answers_that_are_understood(answer: object) -> None:
    (day,) = days_from(answer, "x")
    assert (day.day, day.spend, day.shares) == ("2026-03-01", 3.0, {"a": 3.0})


@pytest.mark.parametrize(
    "answer",
    [None, "", 7, {}, {"results": {}}, [7], [{"spend": 1}], [{"date": "2026-03-01"}], [{"date": "soon", "spend": 1}]],
)
def test_answers_that_are_not(answer: object) -> None:
    with pytest.raises(BadAnswer, match="cannot be understood"):
        days_from(answer, "x")


def test_only_what_is_shown_as_somebodys_is_theirs() -> None:
    both = {"leo": {"spend": 1, "api_key_breakdown": {"k": {"spend": 1}}}, "ann": {"spend": 5}}
    (day,) = of_one([{"date": "2026-03-01", "spend": 6, "breakdown": {"entities": both}}], "leo", "x")
    assert (day.spend, day.keys) == (1.0, {"k": 1.0})
    assert of_one([{"date": "2026-03-01", "spend": 6, "breakdown": {"entities": both}}], "eva", "x") == []


@pytest.mark.parametrize(("used", "drawn"), [(None, ""), (0.0, "[" + "·" * 20 + "]"), (1.0, "[" + "█" * 20 + "] OVER")])
def test_bars(used: float | None, drawn: str) -> None:
    assert bar(used) == drawn
