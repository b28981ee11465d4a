"""The endpoints of Graph, with the application permission each of them needs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from idsync.sandbox.graph import bodies
from idsync.sandbox.graph.delta import Token, noisy
from idsync.sandbox.graph.replies import TYPE, USUAL, bad, denied, failure, missing, opened, sealed
from idsync.sandbox.graph.state import Group, Principal, ServicePrincipal, Tenant, User
from idsync.sandbox.idp.shelf import Shelf
from idsync.sandbox.replies import Refusal, Reply
from idsync.sandbox.wire import Request

if TYPE_CHECKING:
    from idsync.sandbox.graph.service import Graph

JSON = dict[str, Any]
Handler = Callable[["Call"], Reply]
DEFAULT_PAGE, LARGEST_PAGE = 100, 999


@dataclass(slots=True)
class Call:
    service: Graph
    request: Request
    roles: frozenset[str]
    base: str
    params: dict[str, str] = field(default_factory=dict)

    @property
    def tenant(self) -> Tenant:
        return self.service.tenant

    @property
    def now(self) -> float:
        return self.service.now()

    @property
    def query(self) -> dict[str, str]:
        return self.request.query

    @property
    def advanced(self) -> bool:
        return self.request.headers.get("consistencylevel", "").lower() == "eventual"

    def need(self, *any_of: str) -> None:
        if not self.roles & set(any_of):
            raise denied(self.now)

    def user(self) -> User:
        user = self.tenant.find_user(self.params["id"])
        if user is None:
            raise missing(self.params["id"], self.now)
        return user

    def group(self) -> Group:
        ref = self.params["id"]
        group = self.tenant.groups.get(ref)
        if group is None:
            raise missing(ref, self.now)
        if not self.sees(group):
            raise denied(self.now)
        return group

    def sees(self, group: Group) -> bool:
        unseen = self.service.settings.unseen_groups
        return not unseen or (group.id not in unseen and group.name not in unseen)

    def principal(self) -> ServicePrincipal:
        ref = self.params["id"]
        found = next((p for p in self.tenant.principals if ref in (p.id, f"appId={p.app_id}")), None)
        if found is None:
            raise missing(ref, self.now)
        return found

    def select(self, kind: str) -> tuple[str, ...]:
        given = self.query.get("$select")
        if not given:
            return bodies.DEFAULT[kind]
        names = tuple(name.strip() for name in given.split(",") if name.strip())
        for name in names:
            if name not in bodies.KNOWN[kind]:
                raise bad(
                    f"Parsing OData Select and Expand failed: Could not find a property named '{name}' on type 'microsoft.graph.{kind}'.",
                    self.now,
                    "BadRequest",
                )
        return names

    def size(self) -> int:
        given = self.query.get("$top")
        if given is None:
            return DEFAULT_PAGE
        if not given.isdecimal() or not 1 <= int(given) <= LARGEST_PAGE:
            raise bad(
                f"Invalid page size specified: '{given}'. Must be between 1 and {LARGEST_PAGE} inclusive.",
                self.now,
                "Request_UnsupportedQuery",
            )
        return int(given)

    def context(self, what: str) -> str:
        return f"{self.base}/$metadata#{what}"

    def shaped(self, what: str) -> str:
        return self.context(f"{what}({self.query['$select']})" if "$select" in self.query else what)

    # pages

    def place(self) -> tuple[int, int]:
        """The number of the page and the place it begins at."""
        token = next((value for name, value in self.query.items() if name.lower() == "$skiptoken"), None)
        if token is None:
            return 1, 0
        content = opened(token)
        if content is None or not isinstance(content.get("place"), int):
            raise bad("The skip token is not valid.", self.now, "Directory_ExpiredPageToken")
        return int(content.get("page", 1)), content["place"]

    def page(
        self, shelf: Shelf[Any], write: Callable[[Any], str], context: str, wanted: Any = None, **head: Any
    ) -> Reply:
        number, place = self.place()
        size = self.size()
        items, after, more = shelf.page(place, size, wanted)
        more = more and bool(shelf.page(after, 1, wanted)[0])
        return self.listed([write(item) for item in items], context, number, after if more else None, **head)

    def listed(self, rows: Iterable[str], context: str, number: int, after: int | None, **head: Any) -> Reply:
        following = None
        if after is not None:
            rest = {name: value for name, value in self.query.items() if name.lower() != "$skiptoken"}
            token = sealed({"page": number + 1, "place": after})
            following = link(self.base + self.request.path.removeprefix("/v1.0"), rest | {"$skiptoken": token})
        members = head | {"@odata.nextLink": following}
        return Reply(200, bodies.collection(context, rows, **members), (), TYPE)


def link(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote, safe='$,')}" if query else path


def parsed(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True))


# users


def list_users(call: Call) -> Reply:
    call.need("User.Read.All", "Directory.Read.All")
    select = call.select("user")
    wanted = _wanted(call)
    count = {"@odata.count": len(call.tenant.users)} if _counts(call) else {}
    return call.page(call.tenant.users, bodies.writer("user", select), call.shaped("users"), wanted, **count)


def get_user(call: Call) -> Reply:
    call.need("User.Read.All", "Directory.Read.All")
    select = call.select("user")
    return _single(call, bodies.writer("user", select)(call.user()), f"{call.shaped('users')}/$entity")


def check_member_groups(call: Call) -> Reply:
    """Groups whose members the caller may not see are left out."""
    call.need("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
    wanted = (call.request.json() or {}).get("groupIds", [])
    if not 1 <= len(wanted) <= 20:
        raise bad("The number of groupIds must be between 1 and 20.", call.now)
    known = call.tenant.groups_of(call.user())
    found = [ref for ref in wanted if ref in known and _may_see_members(call, known[ref])]
    return Reply(200, {"@odata.context": call.context("Collection(Edm.String)"), "value": found}, (), TYPE)


def member_of(call: Call) -> Reply:
    call.need("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
    user = call.user()
    groups = call.tenant.groups_of(user) if call.params["what"].startswith("transitive") else user.groups
    write = bodies.writer("group", call.select("group"), typed=True)
    number, place = call.place()
    shown, size = list(groups.values()), call.size()
    after = place + size if place + size < len(shown) else None
    rows = [write(group) for group in shown[place : place + size]]
    return call.listed(rows, call.context("directoryObjects"), number, after)


def deleted_users(call: Call) -> Reply:
    call.need("User.Read.All", "Directory.Read.All")
    return call.page(call.tenant.deleted, bodies.writer("user", call.select("user")), call.shaped("users"))


def deleted_item(call: Call) -> Reply:
    call.need("User.Read.All", "Directory.Read.All")
    user = call.tenant.deleted.get(call.params["id"])
    if user is None:
        raise missing(call.params["id"], call.now)
    select = (*call.select("user"), "deletedDateTime")
    write = bodies.writer("user", select, typed=True)
    return _single(call, write(user), call.context("directoryObjects/$entity"))


# groups


def list_groups(call: Call) -> Reply:
    call.need("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
    filtered = _wanted(call)

    def wanted(group: Group) -> bool:
        return call.sees(group) and (filtered is None or filtered(group))

    return call.page(call.tenant.groups, bodies.writer("group", _no_members(call)), call.shaped("groups"), wanted)


def get_group(call: Call) -> Reply:
    call.need("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
    return _single(call, bodies.writer("group", _no_members(call))(call.group()), f"{call.shaped('groups')}/$entity")


def members(call: Call) -> Reply:
    """Direct or transitive ones, all or those of one type; without User.Read.All, people have no properties."""
    call.need("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
    group, cast = call.group(), call.params.get("cast")
    transitive = call.params["what"] == "transitiveMembers"
    if cast and transitive and not call.advanced:
        raise bad(
            "The request uses OData cast, which needs the header ConsistencyLevel: eventual and $count=true.",
            call.now,
            "Request_UnsupportedQuery",
        )
    if not _may_see_members(call, group):
        raise denied(call.now)
    context = call.context(f"{cast}s" if cast else "directoryObjects")
    write = _member_writer(call, cast)
    count = {"@odata.count": _count(call, group, transitive, cast)} if _counts(call) and call.place()[0] == 1 else {}
    if not transitive or not any(isinstance(member, Group) for member in group.members):
        return call.page(group.members, write, context, lambda m: _fits(m, cast), **count)
    number, place = call.place()
    found, size = [m for m in call.tenant.transitive_members(group) if _fits(m, cast)], call.size()
    after = place + size if place + size < len(found) else None
    return call.listed([write(m) for m in found[place : place + size]], context, number, after, **count)


def member_count(call: Call) -> Reply:
    call.need("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
    if not call.advanced:
        raise bad("$count is not currently supported.", call.now)
    group = call.group()
    if not _may_see_members(call, group):
        raise denied(call.now)
    number = _count(call, group, call.params["what"] == "transitiveMembers", call.params.get("cast"))
    return Reply(200, str(number).encode(), (), "text/plain")


def _count(call: Call, group: Group, transitive: bool, cast: str | None) -> int:
    found: Iterable[Principal] = call.tenant.transitive_members(group) if transitive else group.members
    return sum(1 for member in found if _fits(member, cast))


def _fits(member: Principal, cast: str | None) -> bool:
    return member.deleted is None and (cast is None or member.kind == cast)


def _member_writer(call: Call, cast: str | None) -> Callable[[Principal], str]:
    bare = not call.roles & {"User.Read.All", "Directory.Read.All"}
    given = call.query.get("$select")
    names = tuple(given.split(",")) if given else None
    users = bodies.writer("user", names or bodies.USER_DEFAULT, typed=cast is None or bare, bare=bare)
    groups = bodies.writer("group", names or bodies.GROUP_DEFAULT, typed=cast is None)
    return lambda member: users(member) if member.kind == "user" else groups(member)


def _may_see_members(call: Call, group: Group) -> bool:
    return group.visibility != "HiddenMembership" or "Member.Read.Hidden" in call.roles


def _no_members(call: Call) -> tuple[str, ...]:
    return tuple(name for name in call.select("group") if name != "members")


# delta


def delta(call: Call) -> Reply:
    """$top, $orderby and $expand are refused; $filter is for ids; a token carries everything else itself."""
    kind = "user" if call.params["what"] == "users" else "group"
    call.need(
        *{"user": ("User.Read.All",), "group": ("GroupMember.Read.All", "Group.Read.All")}[kind], "Directory.Read.All"
    )
    if refused := [name for name in ("$top", "$orderby", "$expand", "$search") if name in call.query]:
        raise bad(f"{refused[0]} is not supported for delta queries.", call.now, "Request_UnsupportedQuery")
    token = _delta_token(call, kind)
    service = call.service
    page = service.delta.page(token, _page_size(call), service.settings.delta_members)
    rows = noisy(page.rows, service.settings.delta_noise, token.page) if service.settings.delta_noise else page.rows
    address = call.base + call.request.path.removeprefix("/v1.0")
    head: JSON = {}
    if page.following:
        head["@odata.nextLink"] = link(address, {"$skiptoken": page.following.seal()})
    if page.done:
        head["@odata.deltaLink"] = link(address, {"$deltatoken": page.done.seal()})
    select = ",".join(token.select)
    written = bodies.collection(call.context(f"{kind}s({select})"), rows, **head)
    return Reply(200, written, (), TYPE)


def _delta_token(call: Call, kind: str) -> Token:
    service = call.service
    given = {name.lower(): value for name, value in call.query.items()}
    select = _delta_select(call, kind)
    ids = tuple(re.findall(r"id eq '([^']+)'", given.get("$filter", "")))
    text = given.get("$skiptoken") or given.get("$deltatoken")
    if text == "latest":
        return service.delta.latest(kind, select, ids, service.delta_epoch)
    if not text:
        return service.delta.first(kind, select, ids, service.delta_epoch)
    state, token = Token.open(text, kind, call.now, service.delta_epoch)
    if state == "expired":
        raise _expired(call, kind)
    if token is None:
        raise bad(USUAL[410][1], call.now, "syncStateNotFound")
    if "$select" in given and set(select) != set(token.select):
        raise bad("The $select of a delta query cannot change: it is encoded in the token.", call.now)
    return token if "$skiptoken" in given else service.delta.resumed(token)


def _delta_select(call: Call, kind: str) -> tuple[str, ...]:
    select = call.select(kind)
    return select if "$select" in call.query or kind == "user" else (*select, "members")


def _expired(call: Call, kind: str) -> Refusal:
    code, said = USUAL[410]
    if call.service.settings.expired_delta != 410:
        return bad(said, call.now, code)
    return Refusal(failure(410, code, said, call.now, (("location", f"{call.base}/{kind}s/delta?$deltatoken="),)))


def _page_size(call: Call) -> int:
    found = re.search(r"odata\.maxpagesize=(\d+)", call.request.headers.get("prefer", ""))
    return min(max(1, int(found[1])), LARGEST_PAGE) if found else DEFAULT_PAGE


# the enterprise app


def list_principals(call: Call) -> Reply:
    call.need("Application.Read.All", "Directory.Read.All")
    found = (
        re.fullmatch(r"\s*(appId|displayName) eq '([^']*)'\s*", call.query.get("$filter", ""))
        if "$filter" in call.query
        else None
    )

    def wanted(one: ServicePrincipal) -> bool:
        return found is None or {"appId": one.app_id, "displayName": one.name}[found[1]] == found[2]

    return call.page(
        call.tenant.principals,
        lambda p: json.dumps(bodies.service_principal(p)),
        call.context("servicePrincipals"),
        wanted,
    )


def get_principal(call: Call) -> Reply:
    call.need("Application.Read.All", "Directory.Read.All")
    return _single(
        call, json.dumps(bodies.service_principal(call.principal())), call.context("servicePrincipals/$entity")
    )


def assigned_to(call: Call) -> Reply:
    """Users, and groups as such: their members are not listed, and those of nested groups have no access."""
    call.need("Application.Read.All", "Directory.Read.All")
    found = call.principal()
    context = call.context(f"servicePrincipals('{found.id}')/appRoleAssignedTo")
    return call.page(
        found.assignments, lambda one: bodies.assignment(one, found), context, lambda one: one.principal.deleted is None
    )


def _single(call: Call, written: str, context: str) -> Reply:
    return Reply(200, f'{{"@odata.context":{json.dumps(context)},{written[1:]}'.encode(), (), TYPE)


def _counts(call: Call) -> bool:
    return call.query.get("$count", "").lower() == "true" and call.advanced


_CLAUSE = re.compile(r"(id|displayName|userPrincipalName|mail|accountEnabled) eq (?:'([^']*)'|(true|false))$")
_IN = re.compile(r"id in \(([^)]*)\)$")
_STARTS = re.compile(r"startswith\((displayName|userPrincipalName|mail),\s*'([^']*)'\)$", re.I)


def _wanted(call: Call) -> Callable[[Any], bool] | None:
    """The filters a directory takes without an index of its own."""
    text = call.query.get("$filter", "").strip()
    if not text:
        return None
    names = bodies.USER_PROPERTIES | bodies.GROUP_PROPERTIES
    if found := _IN.match(text):
        ids = set(re.findall(r"'([^']*)'", found[1]))
        return lambda item: item.id in ids
    if found := _STARTS.match(text):
        attribute, start = names[found[1]], found[2].lower()
        return lambda item: str(getattr(item, attribute) or "").lower().startswith(start)
    if found := _CLAUSE.match(text):
        attribute, value = names[found[1]], found[2] if found[2] is not None else found[3] == "true"
        return lambda item: getattr(item, attribute, None) == value
    raise bad("Unsupported or invalid query filter clause specified.", call.now, "Request_UnsupportedQuery")


# which is which

_CAST = r"(?:/microsoft\.graph\.(?P<cast>user|group))?"
_ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", r"/users", list_users),
    ("GET", r"/(?P<what>users|groups)/(?:microsoft\.graph\.)?delta(?:\(\))?", delta),
    ("GET", r"/users/(?P<id>[^/]+)", get_user),
    ("GET", r"/users/(?P<id>[^/]+)/(?P<what>memberOf|transitiveMemberOf)(?:/microsoft\.graph\.group)?", member_of),
    ("POST", r"/(?:users|directoryObjects)/(?P<id>[^/]+)/checkMemberGroups", check_member_groups),
    ("GET", r"/groups", list_groups),
    ("GET", r"/groups/(?P<id>[^/]+)", get_group),
    ("GET", rf"/groups/(?P<id>[^/]+)/(?P<what>members|transitiveMembers){_CAST}", members),
    ("GET", rf"/groups/(?P<id>[^/]+)/(?P<what>members|transitiveMembers){_CAST}/\$count", member_count),
    ("GET", r"/directory/deletedItems/microsoft\.graph\.user", deleted_users),
    ("GET", r"/directory/deletedItems/(?P<id>[^/]+)", deleted_item),
    ("GET", r"/servicePrincipals", list_principals),
    ("GET", r"/servicePrincipals/(?P<id>[^/]+)", get_principal),
    ("GET", r"/servicePrincipals/(?P<id>[^/]+)/appRoleAssignedTo", assigned_to),
]
_TABLE = [(method, re.compile(f"/v1\\.0{path}$"), handler) for method, path, handler in _ROUTES]
_BY_APP = re.compile(r"/servicePrincipals\(appId='([^']+)'\)")


def handled(call: Call) -> Reply:
    path = _BY_APP.sub(r"/servicePrincipals/appId=\1", call.request.path)
    known = False
    for method, pattern, handler in _TABLE:
        if found := pattern.match(path):
            if method == call.request.method:
                call.params = {name: value for name, value in found.groupdict().items() if value is not None}
                return handler(call)
            known = True
    if known:
        return failure(
            405, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.", call.now
        )
    return failure(400, "BadRequest", f"Resource not found for the segment '{path.rsplit('/', 1)[-1]}'.", call.now)
