"""Every fault of a listing, on every page of it: no snapshot, no changes, the right branch of the error."""

from __future__ import annotations

from typing import Any

import pytest
from support.idps import Graph

from idsync.errors import CursorLost, IncompleteSource, SourceRefused, SourceUnreachable
from idsync.sources.graph.client import TRIES
from sources.tenant import Tenant

PAGES = 3
MEMBERS = 999 * (PAGES - 1) + 300
FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "503": {"status": 503},
    "html": {"html": True, "status": 502},
    "html with 200": {"html": True},
    "400": {"status": 400},
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "410": {"status": 410},
    "stalled": {"hang": True},
    "no answer": {"drop": "before"},
    "answer lost": {"drop": "after"},
    "cut off": {"truncate": 200},
    "cut off json": {"damage": "json"},
    "error spliced in": {"damage": "splice"},
    "empty": {"items": "none"},
    "empty and the last": {"items": "none", "next": "none"},
    "half": {"items": "half"},
    "half and the last": {"items": "half", "next": "none"},
    "repeats the page before": {"items": "repeat"},
    "links to itself": {"next": "self"},
    "links to the first": {"next": "first"},
    "links elsewhere": {"next": "foreign"},
    "links to the port beside": {"next": "http://127.0.0.1:1/graph/v1.0/groups"},
    "links out of its path": {"next": "/graph/v1.0/../../entra"},
    "narrowed": {"keep": 0.7},
    "without ids": {"edit": {"match": {}, "unset": ["id"]}},
}
AT = [
    (fault, page) for fault in FAULTS for page in range(1, PAGES + 1) if (fault, page) != ("repeats the page before", 1)
]
BRANCHES = (SourceRefused, SourceUnreachable, CursorLost, IncompleteSource)
KINDS = {
    "401": SourceRefused,
    "403": SourceRefused,
    "500": SourceUnreachable,
    "503": SourceUnreachable,
    "html": SourceUnreachable,
    "stalled": SourceUnreachable,
    "no answer": SourceUnreachable,
    "answer lost": SourceUnreachable,
    "cut off": SourceUnreachable,
}


@pytest.fixture(scope="module")
def crowd(_graph: Graph) -> tuple[Tenant, str]:
    """A group of three pages, and a cursor since which three pages of users have come."""
    _graph.reset()
    tenant = Tenant(_graph)
    tenant.crowd(MEMBERS)
    cursor = tenant.snapshot().cursor
    names = [f"q{number:04d}@example.com" for number in range(MEMBERS)]
    _graph.seed(users=[{"userPrincipalName": name} for name in names])
    return tenant, cursor


@pytest.mark.parametrize(("fault", "at"), AT)
def test_no_fault_makes_a_snapshot(crowd: tuple[Tenant, str], fault: str, at: int) -> None:
    tenant, _ = crowd
    tenant.parts.clear()
    path = f"/v1.0/groups/{tenant.id('ai-eng')}/transitiveMembers/microsoft.graph.user"
    tenant.graph.break_with(path, page=at, **FAULTS[fault])
    with pytest.raises(IncompleteSource) as failed:
        tenant.snapshot(timeout=0.5)
    branch = next(kind for kind in BRANCHES if isinstance(failed.value, kind))
    assert branch is KINDS.get(fault, IncompleteSource)
    assert failed.value.exit_code == 6
    tenant.graph.mend()
    assert len(tenant.snapshot().users) == MEMBERS


CHANGE_FAULTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "500": ({"status": 500}, SourceUnreachable),
    "html with 200": ({"html": True}, IncompleteSource),
    "401": ({"status": 401}, SourceRefused),
    "403": ({"status": 403}, SourceRefused),
    "404": ({"status": 404}, IncompleteSource),
    "410": ({"status": 410}, CursorLost),
    "no answer": ({"drop": "before"}, SourceUnreachable),
    "cut off": ({"truncate": 200}, SourceUnreachable),
    "cut off json": ({"damage": "json"}, IncompleteSource),
    "error spliced in": ({"damage": "splice"}, IncompleteSource),
    "links to itself": ({"next": "self"}, IncompleteSource),
    "links elsewhere": ({"next": "foreign"}, IncompleteSource),
    "without ids": ({"edit": {"match": {}, "unset": ["id"]}}, IncompleteSource),
}


@pytest.mark.parametrize("at", range(1, PAGES + 1))
@pytest.mark.parametrize("fault", CHANGE_FAULTS)
def test_no_fault_makes_a_change(crowd: tuple[Tenant, str], fault: str, at: int) -> None:
    """The cursor stays what it was, so nothing is lost either."""
    tenant, cursor = crowd
    rule, kind = CHANGE_FAULTS[fault]
    tenant.graph.break_with("/v1.0/users/delta", page=at, **rule)
    with pytest.raises(IncompleteSource) as failed:
        tenant.changes(cursor)
    assert type(failed.value) is kind
    tenant.graph.mend()
    assert len(tenant.changes(cursor).users) == MEMBERS


def test_a_request_that_breaks_off_is_sent_again_by_us_alone(crowd: tuple[Tenant, str]) -> None:
    """Whoever sends it beside us does so without waiting, and outside of what is counted and paced."""
    tenant, cursor = crowd
    tenant.graph.break_with("/v1.0/users/delta", page=2, drop="before")
    tenant.asked()
    with pytest.raises(SourceUnreachable):
        tenant.changes(cursor)
    assert tenant.asked().count("/users/delta") == 1 + TRIES, "the first page, then the second one as often as we try"
