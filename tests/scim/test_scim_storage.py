"""The core's own contract for storages, over a real database and the real intake."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scim2_models import (
    NotFoundException,
    Resource,
    ResourceType,
    ScimProvider,
    SearchRequest,
    UniquenessException,
)
from scim2_server.storage import SearchPage
from scim2_server.testing import ScimStorageContract
from support.stores import scratch

from idsync.clock import ManualClock
from idsync.intake import Intake
from idsync.model import Origin
from idsync.policy import Rules
from idsync.scim.provider import Description
from idsync.store import directory
from idsync.store.db import Db
from idsync.store.sqlite import SqliteDb
from idsync.web.scim_storage import SCAN, DirectoryStorage, TooManyToScan

described = Description().provider(strict=False)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Db]:
    with scratch(tmp_path) as found:
        yield found


def storage_of(db: Db, source: str) -> DirectoryStorage:
    intake = Intake(Rules(idp_of={"okta": "okta", "entra": "entra"}), ManualClock())
    return DirectoryStorage(db, intake, source, Origin(source, "test", 0.0), described)


class TestDirectoryStorage(ScimStorageContract):
    @pytest.fixture
    def provider(self) -> ScimProvider:
        return described

    @pytest.fixture
    def storage(self, db: Db) -> DirectoryStorage:
        return storage_of(db, "okta")


@pytest.fixture
def user_type() -> ResourceType:
    return next(one for one in described.resource_types if one.name == "User")


def user(name: str, **more: Any) -> Resource[Any]:
    model: Any = described.model_for("User")
    made: Resource[Any] = model(user_name=name, **more)
    return made


def search(text: str | None = None, **more: Any) -> SearchRequest[Any]:
    model: Any = described.model_for("User")
    request: SearchRequest[Any] = SearchRequest[model].model_validate({"filter": text, **more} if text else more)
    return request


def test_another_source_has_other_records(db: Db, user_type: ResourceType) -> None:
    okta, entra = storage_of(db, "okta"), storage_of(db, "entra")
    made = okta.create(user_type, user("ann"))
    with pytest.raises(NotFoundException):
        entra.get(user_type, str(made.id))
    with pytest.raises(NotFoundException):
        entra.delete(user_type, str(made.id))
    with pytest.raises(UniquenessException):
        okta.create(user_type, user("ANN"))
    entra.create(user_type, user("ann"))
    assert okta.search([user_type], search()).total == 1


def test_a_failed_operation_is_undone_and_its_neighbours_are_not(db: Db, user_type: ResourceType) -> None:
    storage = storage_of(db, "okta")
    with storage.operation():
        storage.create(user_type, user("kept"))

    def fail() -> None:
        with storage.operation():
            storage.create(user_type, user("undone"))
            raise NotFoundException

    with pytest.raises(NotFoundException):
        fail()
    assert [
        json.loads(one["doc"])["userName"]
        for one in directory.scim_page(db, "User", "okta", "1 = 1", {}, limit=9, offset=0)
    ] == ["kept"]


def test_a_filter_without_an_index_looks_at_a_bounded_number(db: Db, user_type: ResourceType) -> None:
    storage = storage_of(db, "okta")
    for number in range(SCAN + 1):
        storage.create(user_type, user(f"u{number}", title="same"))
    with pytest.raises(TooManyToScan):
        storage.search([user_type], search('title co "am"'))
    with pytest.raises(TooManyToScan):
        storage.search([user_type], search('title eq "SAME"'))
    storage.create(user_type, user("odd", title="Other"))
    assert storage.search([user_type], search('title eq "other"')).total == 1
    assert storage.search([user_type], search('userName sw "u" and active eq true', count=3)).total == SCAN + 1


def names(page: SearchPage) -> list[str]:
    return sorted(one.model_dump()["userName"] for one in page.resources)


def test_an_address_is_found_whoever_has_it_first(db: Db, user_type: ResourceType) -> None:
    """Among more people than are looked at one by one; a second address counts as much as a primary one."""
    storage = storage_of(db, "okta")
    for number in range(SCAN + 1):
        storage.create(user_type, user(f"u{number}", emails=[{"value": f"u{number}@example.com", "primary": True}]))
    shared = [{"value": "U7@Example.com", "type": "work"}, {"value": "own@example.com", "primary": True}]
    second = storage.create(user_type, user("second", emails=shared))
    found = storage.search([user_type], search('emails eq "u7@example.com"', count=5))
    assert names(found) == ["second", "u7"]
    found = storage.search([user_type], search('emails[type eq "work"].value eq "u7@example.com"', count=5))
    assert names(found) == ["second"]
    second.emails = None  # type: ignore[attr-defined]
    storage.update(user_type, second)
    assert storage.search([user_type], search('emails.value eq "own@example.com"', count=5)).total == 0


@pytest.mark.needs_file("asks SQLite for its plan")
def test_an_address_is_looked_for_in_an_index(db: Db) -> None:
    plan = db.all(
        "EXPLAIN QUERY PLAN SELECT id FROM users WHERE source = 'okta' AND deleted_at IS NULL AND"
        " (id IN (SELECT user_id FROM user_emails WHERE email_key = 'x')) ORDER BY id LIMIT 9"
    )
    assert not [row["detail"] for row in plan if row["detail"].startswith("SCAN")]


def steps(db: Db, work: Callable[[], object]) -> int:
    """Count the instructions the database needs for some work."""
    assert isinstance(db, SqliteDb)
    taken = itertools.count()
    db.connection.set_progress_handler(lambda: next(taken) < 0, 1)
    try:
        work()
    finally:
        db.connection.set_progress_handler(None, 0)
    return next(taken)


@pytest.mark.needs_file("counts SQLite's steps")
def test_finding_an_address_costs_the_same_among_any_number_of_people(db: Db, user_type: ResourceType) -> None:
    storage = storage_of(db, "okta")

    def find() -> int:
        return steps(db, lambda: storage.search([user_type], search('emails eq "u3@example.com" and active eq true')))

    taken = []
    for number in range(400):
        storage.create(user_type, user(f"u{number}", emails=[{"value": f"u{number}@example.com"}]))
        if number in (9, 399):
            taken.append(find())
    assert taken[1] < 2 * taken[0]
