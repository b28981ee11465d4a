"""A change that the core judges is overtaken by another one before it is written: it is judged anew, nothing is undone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.endpoint import PATCH_OP, USER, Client, Served, serving

from idsync.clock import SystemClock
from idsync.intake import Intake
from idsync.policy import Rules
from idsync.scim.provider import Description
from idsync.store.db import Db
from idsync.web.auth import Caller, ScimSource
from idsync.web.scim_core import ATTEMPTS, Core
from idsync.web.scim_messages import Incoming

T = TypeVar("T")
OKTA = ScimSource("okta")
BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"


@dataclass
class Overtaken:
    """The core over the store of a running endpoint, whose changes somebody is always quicker than."""

    served: Served
    core: Core
    quicker: list[Callable[[], None]] = field(default_factory=list)
    submitted: int = 0

    @property
    def okta(self) -> Client:
        return self.served.clients["okta"]

    def submit(self, work: Callable[[Db], T]) -> T:
        self.submitted += 1
        if self.quicker:
            self.quicker.pop(0)()
        return self.served.store.write(work)

    def send(self, method: str, path: str, body: Any) -> Any:
        incoming = Incoming(method, path, {}, {}, json.dumps(body).encode(), Caller(OKTA, "token"), 0.0)
        if path == "/Bulk":
            return self.core.bulk(incoming, {}, self.submit)
        return self.core.write(incoming, self.submit)

    def leave(self, user_id: str) -> None:
        got = self.okta.patch(f"/Users/{user_id}", {"op": "replace", "path": "active", "value": False})
        assert (got.status, got.json["active"]) == (200, False)

    def rename(self, user_id: str) -> None:
        got = self.okta.patch(f"/Users/{user_id}", {"op": "replace", "path": "nickName", "value": f"n{self.submitted}"})
        assert got.status == 200


@pytest.fixture
def overtaken(tmp_path: Path) -> Iterator[Overtaken]:
    with serving(tmp_path, OKTA) as served:
        intake = Intake(Rules(idp_of={"okta": "okta"}), SystemClock())
        yield Overtaken(served, Core(served.store, intake, Description(), served.base))


TITLE = {"schemas": [PATCH_OP], "Operations": [{"op": "replace", "path": "title", "value": "Lead"}]}


def ways(user: dict[str, Any]) -> dict[str, tuple[str, str, Any]]:
    path = f"/Users/{user['id']}"
    return {
        "PATCH": ("PATCH", path, TITLE),
        "PUT": ("PUT", path, {"schemas": [USER], "userName": user["userName"], "title": "Lead"}),
        "Bulk": (
            "POST",
            "/Bulk",
            {"schemas": [BULK], "Operations": [{"method": "PATCH", "path": path, "data": TITLE}]},
        ),
    }


@pytest.mark.parametrize("way", ["PATCH", "PUT", "Bulk"])
@pytest.mark.parametrize("times", [1, ATTEMPTS, 10 * ATTEMPTS])
def test_a_departure_in_between_stays_one(overtaken: Overtaken, way: str, times: int) -> None:
    """Overtaken again and again it is judged in the writer at last, where nobody is quicker."""
    user = overtaken.okta.user("ann@example.com")
    overtaken.quicker = [lambda: overtaken.leave(user["id"])] + [lambda: overtaken.rename(user["id"])] * (times - 1)
    reply = overtaken.send(*ways(user)[way])
    left = overtaken.okta.get(f"/Users/{user['id']}").json
    assert (reply.status, left["active"], left["title"]) == (200, False, "Lead")
    assert overtaken.submitted == min(times, ATTEMPTS) + 1
    if way == "Bulk":
        assert [one["status"] for one in json.loads(str(reply.body))["Operations"]] == ["200"]


def test_the_condition_of_a_client_counts_for_what_is_there_then(overtaken: Overtaken) -> None:
    """If-Match named the version that was read first; after the other change it is none any more."""
    user = overtaken.okta.user("ben@example.com")
    overtaken.quicker = [lambda: overtaken.leave(user["id"])]
    operation = {"method": "PATCH", "path": f"/Users/{user['id']}", "version": user["meta"]["version"], "data": TITLE}
    reply = overtaken.send("POST", "/Bulk", {"schemas": [BULK], "Operations": [operation]})
    assert [one["status"] for one in json.loads(str(reply.body))["Operations"]] == ["412"]
    left = overtaken.okta.get(f"/Users/{user['id']}").json
    assert (left["active"], left.get("title")) == (False, None)
