"""`idsync drift` and `idsync teams list` about teams: each way in which one may not be as configured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from idsync.drift import Accounted, drift
from idsync.model import MANAGED, GatewayTeam, TeamMember
from idsync.plan import Gatewayscape, WantedTeam
from idsync.teams.listing import rows

WANTED = WantedTeam("data", "data", adopt=False, max_budget=2000, metadata={"owner": "ann"})
AS_WANTED = GatewayTeam(
    "data", "data", (TeamMember("default_user_id", None, "admin"),), max_budget=2000.0, metadata={"owner": "ann"}
)
KNOWN = {"data": "data"}


@pytest.mark.parametrize(
    ("wanted", "shown", "known", "says", "remedy"),
    [
        pytest.param(
            WANTED,
            replace(AS_WANTED, max_budget=5.0),
            KNOWN,
            "max_budget is 5 at the gateway, 2000 in",
            "puts it back",
            id="back",
        ),
        pytest.param(
            replace(WANTED, drift="report"),
            replace(AS_WANTED, metadata={"theirs": 1}),
            KNOWN,
            "metadata.owner is not set at the gateway, ann in",
            "change it back at the gateway",
            id="only told",
        ),
        pytest.param(WANTED, replace(AS_WANTED, blocked=True), KNOWN, "blocked", "idsync does not", id="blocked"),
        pytest.param(
            replace(WANTED, extra_members="remove"),
            replace(AS_WANTED, members=(TeamMember("u-1", None, "user"),)),
            KNOWN,
            "no source put them there",
            "takes them off",
            id="extra member",
        ),
        pytest.param(None, AS_WANTED, KNOWN, "0 members; not in the", "teams retire data", id="left over"),
        pytest.param(None, AS_WANTED, {}, "not in the configuration", "", id="not ours"),
        pytest.param(WANTED, replace(AS_WANTED, max_budget=5.0), {}, None, "", id="refused, so not compared"),
        pytest.param(WANTED, AS_WANTED, KNOWN, None, "", id="as configured"),
    ],
)
def test_each_difference_is_told_with_what_to_do(
    wanted: WantedTeam | None, shown: GatewayTeam, known: dict[str, str], says: str | None, remedy: str
) -> None:
    scape = Gatewayscape.of([], [], [shown])
    found = drift(scape, [wanted] if wanted else [], Accounted(teams=known))
    assert len(found) == (says is not None)
    for one in found:
        assert (says or "") in one.detail
        assert remedy in one.remedy


MADE = replace(AS_WANTED, metadata={MANAGED: "managed", "owner": "ann"})


@pytest.mark.parametrize(
    ("wanted", "shown", "known", "state"),
    [
        ([WANTED], [MADE], KNOWN, "made"),
        ([WANTED], [AS_WANTED], KNOWN, "adopted"),
        ([replace(WANTED, adopt=True)], [AS_WANTED], {}, "to adopt"),
        ([WANTED], [AS_WANTED], {}, "refused"),
        ([WANTED], [], KNOWN, "missing"),
        ([replace(WANTED, team_id="other")], [MADE], KNOWN, "refused"),
        ([], [AS_WANTED], KNOWN, "left over"),
        ([], [AS_WANTED], {}, "not ours"),
    ],
)
def test_where_each_team_stands(wanted: Any, shown: Any, known: dict[str, str], state: str) -> None:
    [row] = rows(shown, wanted, known, {})
    assert (row.team, row.state) == ("data", state)
    assert [row.state for row in rows(shown, wanted, known, {"gone": "old"}) if row.team == "old"] == ["retiring"]
