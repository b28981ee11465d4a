"""Both IdPs from end to end: an act in the directory, over its own API and our real source, to a key that is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.fixtures import Opener
from support.gateway import Gateway, Holder
from support.home import Home
from support.idps import Graph, Okta

from idsync.errors import IncompleteSource
from idsync.sandbox.graph.service import CLIENT, SECRET, TENANT
from idsync.sandbox.okta.service import TOKEN
from idsync.store import facts, ledger

PEOPLE = tuple(f"p{number:02}" for number in range(30))
WHOLE, HALF = "data", "web"


class OktaSite(Okta):
    """An org: thirty people in Data, half of them in Web too."""

    kind = "okta"
    pages = ("/api/v1/groups*", "/api/v1/groups/*")

    def found(self) -> None:
        self.reset()
        logins = [f"{name}@corp.example" for name in PEOPLE]
        users = [{"login": login, "email": login} for login in logins]
        self.seed(users=users, groups=[{"name": "Data", "members": logins}, {"name": "Web", "members": logins[:15]}])

    def table(self, folder: Path) -> dict[str, Any]:
        (folder / "okta.token").write_text(TOKEN)
        return {"name": "poll", "idp": "corp", "org_url": self.org_url, "api_token_file": str(folder / "okta.token")}


class GraphSite(Graph):
    """A tenant with the same people."""

    kind = "graph"
    pages = ("/v1.0/groups*", "/v1.0/groups/*")

    def found(self) -> None:
        self.reset()
        logins = [f"{name}@corp.example" for name in PEOPLE]
        users = [{"userPrincipalName": login, "mail": login} for login in logins]
        groups = [{"displayName": "Data", "members": logins}, {"displayName": "Web", "members": logins[:15]}]
        self.seed(users=users, groups=groups)
        self.move_clock(7200)

    def table(self, folder: Path) -> dict[str, Any]:
        (folder / "entra.secret").write_text(SECRET)
        return {
            "name": "poll",
            "idp": "corp",
            "tenant_id": TENANT,
            "client_id": CLIENT,
            "client_secret_file": str(folder / "entra.secret"),
            "authority": self.authority.removesuffix(f"/{TENANT}"),
            "graph_url": self.graph_url,
        }


Site = OktaSite | GraphSite


@pytest.fixture(params=["okta", "graph"])
def site(request: pytest.FixtureRequest, gateway: Gateway) -> Site:
    found: Site = OktaSite(gateway.sandbox) if request.param == "okta" else GraphSite(gateway.sandbox)
    found.found()
    return found


@pytest.fixture
def home(site: Site, opened: Opener, tmp_path: Path) -> Home:
    sources = {site.kind: [site.table(tmp_path)]}
    return opened(scim={"sources": []}, sources=sources, hasty=True, policy={"group_loss_delete_after": "0s"})


def leaver(gateway: Gateway, home: Home) -> Holder:
    holder = gateway.account(PEOPLE[0])
    home.poll("poll")
    home.wait_until_quiet()
    holder.keys = [gateway.key_of(holder.user_id, team) for team in (WHOLE, HALF, None)]
    gateway.ready()
    return holder


def polls(home: Home, kind: str) -> None:
    for _ in range(2):  # Graph says twice that somebody is gone
        home.poll("poll", kind)
    home.wait_until_quiet()


ACTS: dict[str, list[tuple[str, Callable[[Any, str], object], str]]] = {
    "okta": [
        ("deactivated", lambda okta, user: okta.act("deactivate", user=user), "gone"),
        ("deactivation under way", lambda okta, user: okta.act("deactivate", user=user, slow=True), "under way"),
        ("suspended", lambda okta, user: okta.act("suspend", user=user), "blocked"),
        ("locked out", lambda okta, user: okta.act("lock", user=user), "works"),
        ("password expired", lambda okta, user: okta.act("status", user=user, status="PASSWORD_EXPIRED"), "works"),
        ("a status nobody knows", lambda okta, user: okta.act("status", user=user, status="FROZEN"), "works"),
        ("deleted", lambda okta, user: (okta.act("deactivate", user=user), okta.act("delete", user=user)), "gone"),
        ("out of one group", lambda okta, user: okta.act("leave", group="Web", user=user), "web"),
    ],
    "graph": [
        ("disabled", lambda graph, user: graph.act("disable", user=user), "gone"),
        ("soft-deleted", lambda graph, user: graph.act("soft_delete", user=user), "gone"),
        ("hard-deleted", lambda graph, user: (graph.act("soft_delete", user=user), graph.act("hard_delete", user=user)), "gone"),
        ("enabled unknown", lambda graph, user: graph.act("change_user", user=user, accountEnabled=None), "works"),
        ("out of one group", lambda graph, user: graph.act("leave", group="Web", member=user), "web"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["full", "recent", "events"])
@pytest.mark.parametrize(
    ("site", "act", "ends"),
    [pytest.param(site, act, ends, id=f"{site} {name}") for site, acts in ACTS.items() for name, act, ends in acts],
    indirect=["site"],
)
def test_what_happens_in_the_directory_happens_to_the_keys(
    gateway: Gateway, site: Site, home: Home, act: Callable[[Any, str], object], ends: str, kind: str
) -> None:
    if kind == "events" and (site.kind == "graph" or ends == "under way"):
        pytest.skip("the event log does not tell this")
    leo = leaver(gateway, home)
    act(site, f"{PEOPLE[0]}@corp.example")
    polls(home, kind)
    ends = "gone" if ends == "under way" else ends
    working = [gateway.answers([key]) == {200} for key in leo.keys]
    if ends == "web":
        assert (working, gateway.teams_with(leo.user_id)) == ([True, False, True], [WHOLE])
    else:
        assert working == [ends == "works"] * 3
        assert all(gateway.exists(key) for key in leo.keys) == (ends != "gone")
    assert len(ledger.departures(home.db)) == (ends in ("gone", "blocked"))


FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "502 with HTML": {"status": 502, "html": True},
    "200 with HTML": {"html": True},
    "401": {"status": 401},
    "403": {"status": 403},
    "cut off": {"truncate": True},
    "truncated JSON": {"damage": "json"},
    "an error spliced in": {"damage": "splice"},
    "connection lost": {"drop": "after"},
    "the link loops": {"next": "self"},
    "the link leaves": {"next": "foreign"},
    "an empty last page": {"items": "none", "next": "none"},
    "half of a last page": {"items": "half", "next": "none"},
    "narrowed": {"keep": 0.5},
}


@pytest.mark.parametrize(("fault", "path"), [(fault, number % 2) for number, fault in enumerate(FAULTS)])
def test_no_fault_of_a_listing_removes_anybody(gateway: Gateway, site: Site, home: Home, fault: str, path: int) -> None:
    leo = leaver(gateway, home)
    site.break_with(site.pages[path], **FAULTS[fault])
    with suppress(IncompleteSource):
        assert home.poll("poll").losses == []
    assert (facts.get(home.db, "source_errors:poll") == 1) == bool(facts.get(home.db, "source_problem:poll"))
    home.wait_until_quiet()
    assert gateway.answers(leo.keys) == {200}
    assert ledger.departures(home.db) == []
    assert sorted(gateway.teams_with(leo.user_id)) == [WHOLE, HALF]
    site.mend()
    assert home.poll("poll").losses == []
