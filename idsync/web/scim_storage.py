"""The directory of one source as the storage of the SCIM core: reads from rows, writes through the intake.

One object serves one request, on one connection: read-only for queries, the writer's transaction for changes.
Records of another source do not exist here (promise 12).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol, TypeVar

from scim2_models import (
    NotFoundException,
    PreconditionFailedException,
    Resource,
    ResourceType,
    ResponseParameters,
    SCIMException,
    ScimFilter,
    ScimProvider,
    SearchRequest,
    UniquenessException,
)
from scim2_server.conditions import Conditions
from scim2_server.handler import ScimHandler
from scim2_server.storage import ScimStorage, SearchPage

from idsync.errors import NameTaken
from idsync.model import Group, GroupFacts, Origin, User, UserFacts
from idsync.scim import sql
from idsync.scim.documents import etag, group_facts, member_ids, moment, user_facts
from idsync.store import directory
from idsync.store.db import Db
from idsync.web.scim_search import Search, find, paginate

T = TypeVar("T")
SCAN = 500
"""Most records that are looked at one by one for a filter that no index and no column can answer."""


class Store(Protocol):
    """What the endpoint needs of the store."""

    def submit(self, run: Callable[[Db], T], /) -> Future[T]:
        """Queue a write; the future resolves once it is on disk, or with what `run` raised after it was undone."""

    def reader(self) -> Db:
        """Return this thread's read-only connection."""


class Intake(Protocol):
    """The one way to change a directory; every call runs inside the writer's transaction."""

    def create_user(self, db: Db, facts: UserFacts, origin: Origin) -> User: ...
    def replace_user(self, db: Db, user: User, facts: UserFacts, origin: Origin) -> User: ...
    def delete_user(self, db: Db, user: User, origin: Origin) -> None: ...
    def create_group(self, db: Db, facts: GroupFacts, members: Sequence[str], origin: Origin) -> Group: ...
    def replace_group(
        self, db: Db, group: Group, facts: GroupFacts, members: Sequence[str] | None, origin: Origin
    ) -> Group: ...
    def change_members(
        self,
        db: Db,
        group: Group,
        add: Sequence[str],
        remove: Sequence[str],
        origin: Origin,
        *,
        facts: GroupFacts | None = None,
    ) -> Group: ...
    def delete_group(self, db: Db, group: Group, origin: Origin) -> None: ...


class TooManyToScan(SCIMException):
    """A filter would have to look at more records than is reasonable (RFC 7644 §3.12, tooMany)."""

    status = 400
    scim_type = "tooMany"
    _default_detail = (
        "This filter or sort order has no index here and would read too many records; "
        "use userName, externalId, displayName, emails, active, id, meta or members."
    )


@contextmanager
def unique_names() -> Iterator[None]:
    """Turn a name in use into a 409 with scimType uniqueness."""
    try:
        yield
    except NameTaken as error:
        raise UniquenessException(detail=f"{error}.") from error


def not_found(kind: str) -> NotFoundException:
    return NotFoundException(detail=f"There is no {kind} of this id.")


def live_user(db: Db, source: str, user_id: str) -> User:
    """Return a user of the source.

    Raises:
        NotFoundException: it has none of that id.
    """
    user = directory.user(db, source, user_id)
    if user is None:
        raise not_found("User")
    return user


def live_group(db: Db, source: str, group_id: str) -> Group:
    """Return a group of the source; see `live_user`."""
    group = directory.group(db, source, group_id)
    if group is None:
        raise not_found("Group")
    return group


def _kind(resource_type: ResourceType) -> str:
    return str(resource_type.name)


def _check(version: int, expected: str | None) -> None:
    if expected is not None and expected != etag(version):
        raise PreconditionFailedException


class DirectoryStorage(ScimStorage):
    """Reads and writes one source's directory for one request."""

    supports_cursors = True

    def __init__(self, db: Db, intake: Intake, source: str, origin: Origin, provider: ScimProvider) -> None:
        self.db = db
        self.intake = intake
        self.source = source
        self.origin = origin
        self.provider = provider
        self._depth = 0

    # -- rows to models ------------------------------------------------------------------------------------------

    def _model(self, kind: str) -> type[Resource[Any]]:
        model: Any = self.provider.model_for(kind)
        return model  # type: ignore[no-any-return]

    def _build(self, kind: str, row: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> Resource[Any]:
        document = {
            **json.loads(row["doc"]),
            "id": row["id"],
            "meta": {
                "resourceType": kind,
                "created": moment(row["created_at"]),
                "lastModified": moment(row["updated_at"]),
                "version": etag(row["version"]),
            },
        }
        if listed:
            document["groups" if kind == "User" else "members"] = listed
        return self._model(kind).model_validate(document)

    def _users(self, rows: Sequence[Mapping[str, Any]]) -> list[Resource[Any]]:
        groups = directory.group_names_of(self.db, [row["id"] for row in rows])
        return [
            self._build(
                "User",
                row,
                [
                    {"value": one, "$ref": f"Groups/{one}", "display": name, "type": _type(direct)}
                    for one, name, direct in groups.get(row["id"], ())
                ],
            )
            for row in rows
        ]

    def _group(self, row: Mapping[str, Any], *, with_members: bool = True) -> Resource[Any]:
        listed = [
            {
                "value": one.member_id,
                "$ref": f"{one.member_type}s/{one.member_id}",
                "type": one.member_type,
                "display": one.label,
            }
            for one in (directory.members(self.db, row["id"]) if with_members else ())
        ]
        return self._build("Group", row, listed)

    def _resources(self, kind: str, rows: Sequence[Mapping[str, Any]], *, members: bool) -> list[Resource[Any]]:
        if kind == "User":
            return self._users(rows)
        return [self._group(row, with_members=members) for row in rows]

    # -- reading -------------------------------------------------------------------------------------------------

    def get(
        self,
        resource_type: ResourceType,
        resource_id: str,
        *,
        response_parameters: ResponseParameters[Any] | None = None,
    ) -> Resource[Any]:
        """Return a resource, members of a group only when the answer keeps them."""
        kind = _kind(resource_type)
        row = directory.scim_row(self.db, kind, self.source, resource_id)
        if row is None:
            raise not_found(kind)
        return self._resources(kind, [row], members=_keeps_members(response_parameters))[0]

    def search(
        self, resource_types: list[ResourceType], search_request: SearchRequest[Any], *, position: Any = None
    ) -> SearchPage:
        """Return a page and the number of all matches, in a stable order (RFC 7644 §3.4.2.4, RFC 9865)."""
        kinds = list(dict.fromkeys(map(_kind, resource_types)))
        search = Search.of(kinds, search_request)
        if not search.in_sql:
            return self._search_models(search, search_request, position)
        found = find(self.db, self.source, search, search_request, position)
        resources: list[Resource[Any]] = []
        for kind, places in groupby(found.rows, key=itemgetter(0)):
            rows = [row for _, row in places]
            resources += self._resources(kind, rows, members=_keeps_members(search_request))
        return SearchPage(found.total, resources, found.next, found.previous)

    def _search_models(self, search: Search, request: SearchRequest[Any], position: Any) -> SearchPage:
        """Look at the candidates one by one with the filter itself, and page what is left in memory."""
        found: list[Resource[Any]] = []
        for kind, condition in search.conditions.items():
            found += self._matches(kind, condition, request)
        return paginate(found, request, position)

    def _matches(self, kind: str, condition: sql.Where, request: SearchRequest[Any]) -> list[Resource[Any]]:
        rows = directory.scim_page(
            self.db, kind, self.source, condition.text, condition.params, limit=SCAN + 1, offset=0, order="id"
        )
        if len(rows) > SCAN:
            raise TooManyToScan
        resources = self._resources(kind, rows, members=True)
        if request.filter is None:
            return resources
        model: Any = self._model(kind)
        bound: Any = ScimFilter[model](str(request.filter))
        return [one for one in resources if bound.match(one)]

    # -- writing -------------------------------------------------------------------------------------------------

    def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """Hand a new user or group to the intake."""
        document = resource.model_dump()
        with unique_names():
            if _kind(resource_type) == "User":
                made: User | Group = self.intake.create_user(self.db, user_facts(document), self.origin)
            else:
                made = self.intake.create_group(self.db, group_facts(document), member_ids(document), self.origin)
        return self.get(resource_type, made.id)

    def update(
        self,
        resource_type: ResourceType,
        resource: Resource[Any],
        *,
        expected_version: str | None = None,
        waiting: bool = False,
    ) -> Resource[Any]:
        """Hand the whole new state to the intake; a user without `active` keeps the stored value."""
        document = resource.model_dump()
        resource_id = str(resource.id)
        with unique_names():
            if _kind(resource_type) == "User":
                user = live_user(self.db, self.source, resource_id)
                _check(user.version, expected_version)
                self.intake.replace_user(self.db, user, user_facts(document, active=user.active), self.origin)
            else:
                group = live_group(self.db, self.source, resource_id)
                _check(group.version, expected_version)
                wanted = member_ids(document)
                if waiting:
                    fresh = {e["value"] for e in document.get("members") or () if e.get("display") != "\0waiting"}
                    have = {row.member_id for row in directory.members(self.db, group.id)}
                    pending = self._waiting(group.id)
                    add = [one for one in wanted if one in fresh and one not in have]
                    remove = [one for one in sorted(have | pending) if one not in wanted]
                    self.intake.change_members(self.db, group, add, remove, self.origin, facts=group_facts(document))
                else:
                    self.intake.replace_group(self.db, group, group_facts(document), wanted, self.origin)
        return self.get(resource_type, resource_id)

    def _waiting(self, group_id: str) -> set[str]:
        return {
            row["value"] for row in self.db.all("SELECT value FROM pending_members WHERE group_id = :g", g=group_id)
        }

    def add_waiting(self, resource: Any) -> None:
        """Show a PATCH the members that wait for their user, so that it can remove them."""
        if resource.meta.resource_type == "Group":
            entries = [{"value": one, "display": "\0waiting"} for one in sorted(self._waiting(resource.id))]
            if entries:
                have = [m.model_dump() for m in resource.members or ()]
                resource.members = have + entries

    def delete(self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None) -> None:
        """Hand a removal to the intake."""
        if _kind(resource_type) == "User":
            user = live_user(self.db, self.source, resource_id)
            _check(user.version, expected_version)
            self.intake.delete_user(self.db, user, self.origin)
        else:
            group = live_group(self.db, self.source, resource_id)
            _check(group.version, expected_version)
            self.intake.delete_group(self.db, group, self.origin)

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Undo a failed operation of a bulk request without undoing its neighbours (RFC 7644 §3.7)."""
        self._depth += 1
        name = f"operation{self._depth}"
        self.db.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            self.db.execute(f"ROLLBACK TO {name}")
            raise
        finally:
            self.db.execute(f"RELEASE {name}")
            self._depth -= 1


class Handler(ScimHandler):
    """The core's handler, except that the intake decides whether anything changed: a repeated fact is one as well."""

    storage: Any

    def replace_resource(
        self, resource_type: ResourceType, current: Any, replacement: Any, conditions: Conditions
    ) -> Resource[Any]:
        version = current.meta.version
        self.service.apply_replacement(current, replacement, conditions)
        made: Resource[Any] = self.storage.update(resource_type, replacement, expected_version=version)
        return made

    def patch_resource(
        self, resource_type: ResourceType, resource_id: str, patch_op: Any, conditions: Conditions
    ) -> Resource[Any]:
        current = self.storage.get(resource_type, resource_id)
        version = current.meta.version
        self.storage.add_waiting(current)
        if self.service.apply_patch(current, patch_op, conditions) is None:
            current = self.storage.get(resource_type, resource_id)
            self.storage.add_waiting(current)
        made: Resource[Any] = self.storage.update(resource_type, current, expected_version=version, waiting=True)
        return made


def _type(direct: bool) -> str:
    return "direct" if direct else "indirect"


def _keeps_members(parameters: ResponseParameters[Any] | None) -> bool:
    """Tell whether an answer shows members, when they are asked for or left out as a whole."""
    if parameters is None:
        return True
    excluded = {str(path).lower() for path in parameters.excluded_attributes or ()}
    if "members" in excluded:
        return False
    only = [str(path).lower() for path in parameters.attributes or ()]
    return not only or any("members" in path for path in only)
