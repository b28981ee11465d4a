"""The directory of one source as the storage of the SCIM core: reads from rows, writes through the intake.

One object serves one request. It reads on one connection; a change is handed to the writer as a whole, with the
version it was judged by. Records of another source do not exist here (promise 12).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
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
from scim2_server.storage import ScimStorage, SearchPage

from idsync.errors import NameTaken
from idsync.model import Group, GroupFacts, Membership, Origin, User, UserFacts
from idsync.scim import sql
from idsync.scim.documents import etag, group_facts, kept_hidden, member_ids, moment, user_facts, visible
from idsync.store import directory
from idsync.store.db import Db
from idsync.web.scim_members import Meanings, by_id
from idsync.web.scim_search import Search, find, paginate

T = TypeVar("T")


class Submit(Protocol):
    """Runs work inside a write of the store and waits until it is on disk."""

    def __call__(self, work: Callable[[Db], T], /) -> T: ...


Rows = tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""A record and its members or groups, as they are in the database."""
WAITING = "\0waiting"
"""Marks a member a PATCH was only shown; no client can send it, and one it names again waits anew."""
SCAN = 500
"""Most records that are looked at one by one for a filter that no index and no column can answer."""


class Store(Protocol):
    @property
    def shared(self) -> bool: ...

    """What the endpoint needs of the store."""

    def submit(self, run: Callable[[Db], T], /, *, urgent: bool = False) -> Future[T]:
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


@lru_cache(16)
def _schemas_of(model: Any) -> frozenset[str]:
    """Return the schemas a record may show."""
    return frozenset({str(model.__schema__), *map(str, model.get_extension_models())})


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


class Raced(PreconditionFailedException):
    """The record was changed after it was read; whoever judged the change has to look again."""


class DirectoryStorage(ScimStorage):
    """Reads and writes one source's directory for one request."""

    supports_cursors = True

    def __init__(
        self,
        db: Db,
        intake: Intake,
        source: str,
        origin: Origin,
        provider: ScimProvider,
        submit: Submit | None = None,
    ) -> None:
        """Without `submit`, `db` is the writer's own connection and a change is made at once."""
        self.db = db
        self.intake = intake
        self.source = source
        self.origin = origin
        self.provider = provider
        self.raced = False
        self._submit = submit
        self._seen: dict[str, tuple[set[str], set[str]]] = {}

    # -- rows to models ------------------------------------------------------------------------------------------

    def _model(self, kind: str) -> type[Resource[Any]]:
        model: Any = self.provider.model_for(kind)
        return model  # type: ignore[no-any-return]

    def _known(self, kind: str) -> frozenset[str]:
        return _schemas_of(self._model(kind))

    def _build(self, kind: str, row: Mapping[str, Any], listed: Sequence[Mapping[str, Any]]) -> Resource[Any]:
        document = {
            **visible(json.loads(row["doc"]), self._known(kind)),
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

    def _fetch(self, db: Db, kind: str, resource_id: str, *, members: bool = True) -> Rows:
        """Read a record as it is now; members of a group only when somebody wants to see them."""
        row = directory.scim_row(db, kind, self.source, resource_id)
        if row is None:
            raise not_found(kind)
        if kind == "User":
            return row, _groups(directory.group_names_of(db, [resource_id]).get(resource_id, ()))
        return row, _members(directory.members(db, resource_id)) if members else ()

    def _resources(self, kind: str, rows: Sequence[Mapping[str, Any]], *, members: bool) -> list[Resource[Any]]:
        if kind == "User":
            groups = directory.group_names_of(self.db, [row["id"] for row in rows])
            return [self._build(kind, row, _groups(groups.get(row["id"], ()))) for row in rows]
        return [
            self._build(kind, row, _members(directory.members(self.db, row["id"])) if members else ()) for row in rows
        ]

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
        rows = self._fetch(self.db, kind, resource_id, members=_keeps_members(response_parameters))
        return self._build(kind, *rows)

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
            self.db,
            kind,
            self.source,
            condition.text,
            condition.params,
            limit=SCAN + 1,
            offset=0,
            order="id",
            narrow=condition.narrow,
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

    def within(self, work: Callable[[], T]) -> T:
        """Run work in the writer, reading what it is about to change: nobody comes in between."""

        def inside(db: Db) -> T:
            outside, self.db, submit, self._submit = self.db, db, self._submit, None
            try:
                return work()
            finally:
                self.db, self._submit = outside, submit

        return inside(self.db) if self._submit is None else self._submit(inside)

    def _write(self, work: Callable[[Db], T]) -> T:
        with unique_names():
            return work(self.db) if self._submit is None else self._submit(work)

    def _check(self, version: int, expected: str | None) -> None:
        if expected is not None and expected != etag(version):
            self.raced = True
            raise Raced

    def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Resource[Any]:
        """Hand a new user or group to the intake."""
        kind, document = _kind(resource_type), resource.model_dump()

        def work(db: Db) -> Rows:
            if kind == "User":
                made: User | Group = self.intake.create_user(db, user_facts(document), self.origin)
            else:
                made = self.intake.create_group(db, group_facts(document), member_ids(document), self.origin)
            return self._fetch(db, kind, made.id)

        return self._build(kind, *self._write(work))

    def update(
        self,
        resource_type: ResourceType,
        resource: Resource[Any],
        *,
        expected_version: str | None = None,
        patched: bool = False,
    ) -> Resource[Any]:
        """Hand the whole new state to the intake; a user without `active` keeps the stored value.

        Raises:
            Raced: the record is not of `expected_version` any more.
        """
        kind, document, resource_id = _kind(resource_type), resource.model_dump(), str(resource.id)

        def work(db: Db) -> Rows:
            if kind == "User":
                user = live_user(db, self.source, resource_id)
                self._check(user.version, expected_version)
                facts = user_facts(kept_hidden(document, user.doc, self._known(kind)), active=user.active)
                self.intake.replace_user(db, user, facts, self.origin)
            else:
                group = live_group(db, self.source, resource_id)
                self._check(group.version, expected_version)
                self._update_group(db, group, document, patched=patched)
            return self._fetch(db, kind, resource_id)

        return self._build(kind, *self._write(work))

    def _update_group(self, db: Db, group: Group, document: Mapping[str, Any], *, patched: bool) -> None:
        wanted = member_ids(document)
        facts = group_facts(kept_hidden(document, group.doc, self._known("Group")))
        if not patched:
            self.intake.replace_group(db, group, facts, wanted, self.origin)
            return
        have, waiting = self._seen[group.id]
        named = {one["value"] for one in document.get("members") or () if one.get("display") != WAITING}
        add = [one for one in wanted if one in named and one not in have]
        remove = sorted((have | waiting).difference(wanted))
        self.intake.change_members(db, group, add, remove, self.origin, facts=facts)

    def show_waiting(self, resource: Any) -> None:
        """Show a PATCH of a group the members that wait for their user as well, so that it can remove them."""
        if resource.meta.resource_type != "Group":
            return
        listed = [one.model_dump() for one in resource.members or ()]
        waiting = directory.pending_of(self.db, resource.id)
        self._seen[resource.id] = {one["value"] for one in listed}, set(waiting)
        if waiting:
            resource.members = [*listed, *({"value": one, "display": WAITING} for one in waiting)]

    def by_id(self, resource: Any, patch_op: Any) -> Any:
        """Put a PATCH of a group in terms of the ids its members are shown by."""
        if resource.meta.resource_type != "Group":
            return patch_op
        return by_id(patch_op, Meanings(self.db, self.source, resource.id))

    def delete(self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None) -> None:
        """Hand a removal to the intake."""

        def work(db: Db) -> None:
            if _kind(resource_type) == "User":
                user = live_user(db, self.source, resource_id)
                self._check(user.version, expected_version)
                self.intake.delete_user(db, user, self.origin)
            else:
                group = live_group(db, self.source, resource_id)
                self._check(group.version, expected_version)
                self.intake.delete_group(db, group, self.origin)

        self._write(work)

    @contextmanager
    def operation(self) -> Iterator[None]:
        """Undo a failed operation of a bulk request without undoing its neighbours (RFC 7644 §3.7)."""
        outside = self.db
        try:
            with outside.operation() as self.db:
                yield
        finally:
            self.db = outside


def _groups(groups: Sequence[tuple[str, str, bool]]) -> list[dict[str, Any]]:
    return [
        {"value": one, "$ref": f"Groups/{one}", "display": name, "type": "direct" if direct else "indirect"}
        for one, name, direct in groups
    ]


def _members(members: Sequence[Membership]) -> list[dict[str, Any]]:
    return [
        {
            "value": one.member_id,
            "$ref": f"{one.member_type}s/{one.member_id}",
            "type": one.member_type,
            "display": one.label,
        }
        for one in members
    ]


def _keeps_members(parameters: ResponseParameters[Any] | None) -> bool:
    """Tell whether an answer shows members, when they are asked for or left out as a whole."""
    if parameters is None:
        return True
    excluded = {str(path).lower() for path in parameters.excluded_attributes or ()}
    if "members" in excluded:
        return False
    only = [str(path).lower() for path in parameters.attributes or ()]
    return not only or any("members" in path for path in only)
