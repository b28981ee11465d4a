"""A conformance suite and a typed client that other people wrote, against the real endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_models import (
    BulkOperation,
    BulkRequest,
    NotFoundException,
    PatchOp,
    PatchOperation,
    PreconditionFailedException,
    SearchRequest,
    UniquenessException,
)
from scim2_tester import Status, check_server
from support.endpoint import PREFIX, serving

from idsync.web.auth import ScimSource

from .people import name

MEANT = "check_remove_attribute User: Failed to remove attribute 'active': active cannot be removed"
"""What the suite counts as a failure and is meant: without `active` nobody could say whether somebody may come in."""


@pytest.fixture(params=["tolerant", "strict"])
def scim(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SyncSCIMClient]:
    """A client that checks every answer against the schemas of the server; the suite wants everybody on one page."""
    source = ScimSource("suite", strict=request.param == "strict")
    headers = {"Authorization": "Bearer secret-of-suite"}
    with (
        serving(tmp_path, source) as running,
        httpx2.Client(base_url=f"http://127.0.0.1:{running.port}{PREFIX}", headers=headers) as http,
    ):
        yield SyncSCIMClient(http)


def test_scim2_tester_finds_nothing(scim: SyncSCIMClient) -> None:
    results = check_server(scim)
    failed = [
        f"{one.title} {one.resource_type}: {one.reason}"
        for one in results
        if one.status not in (Status.SUCCESS, Status.SKIPPED)
    ]
    assert [line for line in failed if not line.startswith(MEANT)] == []
    assert len(failed) == 1
    assert sum(one.status is Status.SUCCESS for one in results) >= 130


def of(generic: Any, model: Any) -> Any:
    """Return a generic message for a model that is known since discovery only."""
    return generic[model]


def asking(**what: Any) -> Any:
    return SearchRequest(**what)


def test_a_typed_client_lives_with_it(scim: Any) -> None:
    """Discover, create, query, search, modify, replace, bulk and delete, with every answer validated."""
    scim.discover()
    assert scim.provider.config.bulk.max_operations == 1000
    user, group = scim.get_resource_model("User"), scim.get_resource_model("Group")
    login = name("typed")
    made = scim.create(user(user_name=login, external_id=login, display_name="Typed"))
    assert (made.user_name, made.active, made.meta.resource_type) == (login, True, "User")
    with pytest.raises(UniquenessException):
        scim.create(user(user_name=login.upper()))

    for listed in (
        scim.query(user, query_parameters=asking(filter=f'userName eq "{login.upper()}"')),
        scim.search(user, asking(filter=f'externalId eq "{login}" and active eq true')),
        scim.search(search_request=asking(filter=f'id eq "{made.id}"')),
    ):
        assert [one.id for one in listed.resources] == [made.id]
    lean = scim.query(user, made.id, asking(attributes=["userName"]))
    assert (lean.user_name, lean.display_name) == (login, None)

    leaving = of(PatchOperation, user)(op="replace", path="active", value=False)
    left = scim.modify(user, made.id, of(PatchOp, user)(operations=[leaving]))
    assert left.active is False
    with pytest.raises(PreconditionFailedException):
        scim.replace(made)  # its version is the one before the departure
    left.display_name = "Replaced"
    replaced = scim.replace(left)
    assert (replaced.display_name, replaced.active, replaced.external_id) == ("Replaced", False, login)

    members = [{"value": "bulkId:mate", "type": "User"}]
    people = of(BulkOperation, user)(method="POST", path="/Users", bulk_id="mate", data=user(user_name=name("mate")))
    teams = of(BulkOperation, group)(
        method="POST",
        path="/Groups",
        bulk_id="team",
        data=group.model_validate({"displayName": name("group"), "members": members}),
    )
    done = scim.bulk(of(BulkRequest, user | group)(operations=[people, teams]))
    assert [one.status for one in done.operations] == [201, 201]
    mate, team = (one.location.rpartition("/")[2] for one in done.operations)
    assert [one.value for one in scim.query(group, team).members] == [mate]

    scim.delete(user, made.id)
    with pytest.raises(NotFoundException):
        scim.query(user, made.id)
