"""Random requests of every shape, right and wrong, about the records of `START` and those made on the way."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st
from support.endpoint import ENTERPRISE, GROUP, PATCH_OP, USER

from .pair import ACME, Ask

Json = st.SearchStrategy[Any]
Asks = st.SearchStrategy[Ask]

START = (
    Ask("POST", "/Users", {"userName": "ann", "externalId": "e1", "emails": [{"value": "a@example.com"}]}),
    Ask("POST", "/Users", {"userName": "bob", ENTERPRISE: {"department": "d", "manager": "<u0>"}, ACME: {"level": 1}}),
    Ask("POST", "/Users", {"schemas": [USER], "userName": "cy", "externalId": "e1", "active": False}, source="exact"),
    Ask("POST", "/Users", {"schemas": [USER], "userName": "ann"}, source="exact"),
    Ask("POST", "/Users", {"userName": "ann", "emails": [{"value": "a@example.com"}]}, source="other"),
    Ask("POST", "/Groups", {"displayName": "Data", "members": ["<u0>", "later"]}),
    Ask("POST", "/Groups", {"displayName": "Web", "members": ["<g0>", "<u1>"]}),
    Ask("POST", "/Groups", {"schemas": [GROUP], "displayName": "Ops", "members": [{"value": "<u2>"}, {"value": "later"}]},
        source="exact"),
)  # fmt: skip
"""Two users of a tolerant source, two of a strict one of the same directory, one elsewhere; nested groups, an id that
waits for its user, somebody inactive."""
OWN = {
    "okta": (("<u0>", "<u1>"), ("<g0>", "<g1>")),
    "exact": (("<u2>", "<u3>"), ("<g2>",)),
    "other": (("<u4>",), ("<g3>",)),
}
NEW = (("<u5>", "<u6>"), ("<g3>", "<g4>"))
NOBODY = "2a5e1c3e-4f3b-4dbe-8dfa-000000000000"
IDS = ("<u0>", "<u1>", "<u2>", "<u3>", "<u4>", "<u5>", "<g0>", "<g1>", "<g2>", "<g3>", "later", "dee", "e2", NOBODY,
       "e1", "ann", "ANN", "bob", "Data", "web")  # fmt: skip
"""What members are called: ids, and names that some of them have."""
LOGINS = ("ann", "ANN", "bob", "cy", "dee", "later", "straße", "STRASSE", "дима", "Zoë", "Zoe\u0308", 'q"\\')
GROUPS = ("Data", "data", "Web", "Ops", "later", "Größe", "GRÖSSE")
EXTERNALS = ("e1", "E1", "e2", "ü")
SPELLED = ("True", "False", "true", "false")
NO_BOOLEANS = ("no", 1, 0, None, "")


def _mostly(usual: Json, odd: Json, one_in: int = 8) -> Json:
    """Draw what is usual, and something odd now and then."""
    return st.integers(1, one_in).flatmap(lambda number: usual if number > 1 else odd)


# -- resources -------------------------------------------------------------------------------------------------------

TEXT: Json = st.sampled_from(["x", "y", "Ä ö", 'q"\\', " ", "\u2028"])
MAILS: Json = st.lists(
    st.fixed_dictionaries(
        {"value": st.sampled_from(["a@example.com", "A@EXAMPLE.com", "b@corp.local"])},
        optional={"type": st.sampled_from(["work", "home", "Work"]), "display": TEXT, "primary": st.just(False)},
    ),
    max_size=3,
)
NAME: Json = st.dictionaries(st.sampled_from(["givenName", "familyName", "formatted"]), TEXT, max_size=2)
WORK: Json = st.fixed_dictionaries(
    {}, optional={"department": TEXT, "employeeNumber": TEXT, "manager": st.just({"value": "<u0>"})}
)
OWN_WORK: Json = st.fixed_dictionaries(
    {},
    optional={
        "badge": TEXT,
        "level": st.integers(-1, 1),
        "share": st.sampled_from([1, 0.5, 1e21]),
        "since": st.sampled_from(["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.25+01:00"]),
        "desks": st.just([{"value": "d", "floor": 1}]),
    },
)
GOOD: dict[str, dict[str, Json]] = {
    "Users": {
        "externalId": st.sampled_from(EXTERNALS),
        "active": st.booleans(),
        "displayName": TEXT,
        "title": TEXT,
        "name": NAME,
        "emails": MAILS,
        "phoneNumbers": st.lists(st.fixed_dictionaries({"value": TEXT, "type": TEXT}), max_size=2),
        "addresses": st.lists(st.fixed_dictionaries({}, optional={"type": TEXT, "locality": TEXT}), max_size=2),
        "x509Certificates": st.just([{"value": "YWJj"}]),
        "profileUrl": st.just("https://example.com/a"),
        ENTERPRISE: WORK,
        ACME: OWN_WORK,
    },
    "Groups": {
        "externalId": st.sampled_from(EXTERNALS),
        "members": st.lists(st.builds(lambda one: {"value": one}, st.sampled_from(IDS)), max_size=4),
    },
}
ODD_ENTRIES: Json = st.sampled_from(
    ["<u0>", "dee", {}, {"value": None}, {"value": 1}, {"Value": "<u1>"}, {"value": ""}, 1, None]
) | st.fixed_dictionaries(
    {"value": st.sampled_from(IDS)},
    optional={
        "type": st.sampled_from(["User", "Group", "user", "Foo", None, 5, ""]),
        "display": st.sampled_from(["d", None, ["d"]]),
        "$ref": st.sampled_from(["https://example.com/Users/1", None, 7]),
        "extra": st.just(1),
    },
)
ODD_MEMBERS: Json = st.lists(ODD_ENTRIES, max_size=3) | st.sampled_from(
    ["<u0>", {"value": "<u1>"}, None, "", '[{"value": "<u0>"}]', 5, [[{"value": "<u0>"}]]]
)
NO_TEXT: Json = st.sampled_from(["", None, 5, ["x"], {}])
ODD: dict[str, dict[str, Json]] = {
    "Users": {
        "externalId": NO_TEXT,
        "active": st.sampled_from(SPELLED + NO_BOOLEANS),
        "displayName": NO_TEXT,
        "NickName": TEXT,
        "name": st.sampled_from([{}, {"nope": 1}, {"GIVENNAME": "g"}, [], "", '{"givenName": "g"}']),
        "emails": st.sampled_from(
            [{"value": "a@example.com"}, [{"value": "a", "primary": "true"}], [{"value": "a", "primary": True}] * 2,
             [{"value": {"value": "a"}}], [{"value": None, "type": "work"}], "", None, ["a"], [{}]]
        ),
        "roles": st.sampled_from([[{"value": "r", "primary": True}], '[{"value": "r"}]', {"value": "r"}, ["r"]]),
        "x509Certificates": st.just([{"value": "not base64"}]),
        "profileUrl": st.sampled_from(["a b", "", 5]),
        "groups": st.just([{"value": "<g0>"}]),
        "id": st.sampled_from(["<u0>", NOBODY]),
        "meta": st.just({"version": "x"}),
        "password": st.just("secret"),
        "nope": TEXT,
        ENTERPRISE: st.sampled_from([{}, None, {"manager": "m"}, {"manager": []}, {"manager": [{"value": "m"}]}, {"nope": 1}]),
        ENTERPRISE.lower(): st.just({"Division": "d"}),
        "department": TEXT,
    },
    "Groups": {
        "externalId": NO_TEXT,
        "members": ODD_MEMBERS,
        "Members": ODD_MEMBERS,
        "id": st.sampled_from(["<g0>", NOBODY]),
        "password": st.just("secret"),
        "nope": TEXT,
    },
}  # fmt: skip
NAMED: dict[str, tuple[str, tuple[str, ...], str]] = {
    "Users": ("userName", LOGINS, USER),
    "Groups": ("displayName", GROUPS, GROUP),
}


def _document(kind: str) -> Json:
    name, names, schema = NAMED[kind]
    good = st.fixed_dictionaries({"schemas": st.just([schema]), name: st.sampled_from(names)}, optional=GOOD[kind])
    odd = st.fixed_dictionaries(
        {},
        optional={
            "schemas": st.sampled_from([[schema, ENTERPRISE], [], ["urn:nope"], None, "x", [schema, "urn:x:y"]]),
            name: NO_TEXT,
            name.upper(): st.sampled_from(names),
            **ODD[kind],
        },
    )
    return _mostly(good, st.builds(lambda one, other: {**one, **other}, good, odd), 4)


# -- PATCH -----------------------------------------------------------------------------------------------------------


def _op(op: Json, path: Json, value: Json) -> Json:
    return st.builds(lambda *found: dict(zip(("op", "path", "value"), found, strict=True)), op, path, value)


WRITE: Json = _mostly(st.sampled_from(["add", "replace"]), st.sampled_from(["Add", "REPLACE"]), 4)
ANY_OP: Json = st.sampled_from(["add", "replace", "remove", "Remove", "move", None])
PATHS = {
    "Users": (
        "active", "Active", f"{USER}:active", "userName", "externalId", "displayName", "title", "name.givenName", "name",
        "emails", 'emails[type eq "work"].value', 'emails[type eq "home"]', "emails.value", "manager", "department",
        'addresses[type eq "x"].locality', f"{ENTERPRISE}:department", ENTERPRISE, f"{ENTERPRISE}:manager.value",
        "password", "id", "groups", "meta", "schemas", "nope", "name.nope", "emails[", "", "urn:nope:x", USER, "x y",
        'emails[type eq "\\ud800"].value', 'emails[type\u00a0eq "work"].value',
    ),
    "Groups": ("displayName", "externalId", "members", "Members", f"{GROUP}:members", "members.value", "members.type",
               "nope", "id", "meta", "schemas", GROUP, ""),
}  # fmt: skip
TEXT_PATHS = (
    "displayName", "TITLE", "title", "name.givenName", "Name.FamilyName", f"{ENTERPRISE}:department", f"{USER}:title",
    f"{ENTERPRISE}:manager.value", f"{ACME}:badge", f"{ACME.upper()}:Badge", "department", "manager.value", " title ",
    "urn:scim:schemas:core:1.0:title", "urn:scim:schemas:extension:enterprise:1.0:division", "locale",
)  # fmt: skip
ONE_MEMBER = (
    'members[ Value  EQ "{}" ]', 'Members[value eq "{}"]', 'members[value eq "{}" or value eq "later"]',
    'members[value eq "{}"].display', "members[value eq {}]", f'{GROUP}:members[value eq "{{}}"]',
    'members[type eq "User"]', 'members[type eq "User" and value eq "{}"]', 'members[display eq "ann"]',
    'members[value eq "\\ud800"]', 'members[value\u00a0eq "{}"]', 'members[value eq "{}"', 'members[value ne "{}"]',
    'members[value eq "\\u0064ee"]', 'members[not (value eq "{}")]', 'members[$ref eq "{}"]',
)  # fmt: skip
ANY_TEXT = TEXT | st.sampled_from(LOGINS + GROUPS + EXTERNALS) | NO_TEXT
GOOD_OPS: dict[str, Json] = {
    "Users": st.one_of(
        _op(WRITE, st.just("active"), st.booleans()),
        st.builds(lambda op, value: {"op": op, "value": {"active": value}}, WRITE, st.booleans()),
        _op(WRITE, st.sampled_from(TEXT_PATHS), TEXT),
        _op(WRITE, st.sampled_from(TEXT_PATHS), TEXT),
        _op(WRITE, st.sampled_from(['emails[type eq "work"].value', "emails.display"]), TEXT),
        _op(WRITE, st.just("emails"), MAILS),
        _op(WRITE, st.just("userName"), st.sampled_from(LOGINS)),
        _op(WRITE, st.just("externalId"), st.sampled_from(EXTERNALS)),
        st.builds(lambda op, value: {"op": op, "value": value}, WRITE,
                  st.fixed_dictionaries({}, optional=GOOD["Users"])),
        st.sampled_from([{"op": "remove", "path": path} for path in ("title", "emails", "name", ENTERPRISE)]),
    ),
    "Groups": st.one_of(
        _op(WRITE, st.just("members"), GOOD["Groups"]["members"]),
        _op(st.just("add"), st.just("members"), GOOD["Groups"]["members"]),
        st.builds(lambda one: {"op": "remove", "path": f'members[value eq "{one}"]'}, st.sampled_from(IDS)),
        st.builds(lambda one: {"op": "remove", "path": "members", "value": [{"value": one}]}, st.sampled_from(IDS)),
        st.just({"op": "remove", "path": "members"}),
        _op(WRITE, st.just("displayName"), st.sampled_from(GROUPS)),
        _op(WRITE, st.just("externalId"), st.sampled_from(EXTERNALS)),
        st.builds(lambda op, value: {"op": op, "value": value}, WRITE,
                  st.fixed_dictionaries({}, optional={"displayName": st.sampled_from(GROUPS), **GOOD["Groups"]})),
    ),
}  # fmt: skip
ODD_OPS: dict[str, Json] = {
    "Users": st.one_of(
        _op(WRITE, st.just("active"), st.sampled_from(SPELLED + NO_BOOLEANS)),
        st.builds(lambda op, value: {"op": op, "value": {"Active": value}}, WRITE, st.sampled_from(SPELLED)),
        _op(ANY_OP, st.sampled_from(PATHS["Users"]), ANY_TEXT | MAILS | NAME | WORK | st.booleans()),
        st.builds(lambda op, path: {"op": op, "path": path}, ANY_OP, st.sampled_from(PATHS["Users"])),
        st.builds(lambda op, value: {"op": op, "value": value}, ANY_OP,
                  st.fixed_dictionaries({}, optional=ODD["Users"])),
        st.just({"op": "replace", "path": "active", "value": True, "extra": 1}),
        st.just({"op": "add", "value": {'emails[type eq "work"].value': "w@example.com", "name.givenName": "n"}}),
    ),
    "Groups": st.one_of(
        _op(st.sampled_from(["add", "replace", "remove"]), st.just("members"), ODD_MEMBERS),
        _op(WRITE, st.just("members"), st.lists(ODD_ENTRIES, max_size=2)),
        st.builds(lambda form, one: {"op": "remove", "path": form.format(one)}, st.sampled_from(ONE_MEMBER),
                  st.sampled_from(IDS)),
        _op(ANY_OP, st.sampled_from(ONE_MEMBER).map(lambda form: form.format("<u0>")), ANY_TEXT | st.just({"value": "dee"})),
        _op(ANY_OP, st.sampled_from(PATHS["Groups"]), ANY_TEXT),
        st.builds(lambda op, path: {"op": op, "path": path}, ANY_OP, st.sampled_from(PATHS["Groups"])),
        st.builds(lambda op, value: {"op": op, "value": value}, ANY_OP,
                  st.fixed_dictionaries({}, optional=ODD["Groups"])),
        st.just({"op": "replace", "path": "displayName", "value": "Ops", "extra": 1}),
        st.sampled_from([{}, "x", {"op": "add"}]),
    ),
}  # fmt: skip


def _message(kind: str) -> Json:
    ops = st.lists(_mostly(GOOD_OPS[kind], ODD_OPS[kind], 8), min_size=1, max_size=3)
    usual = st.builds(lambda found: {"schemas": [PATCH_OP], "Operations": found}, ops)
    odd = st.one_of(
        st.builds(lambda found: {"Operations": found}, ops),
        st.builds(lambda found: {"schemas": ["urn:nope"], "operations": found}, ops),
        st.builds(lambda found: {"schemas": [PATCH_OP], "Operations": found, "extra": 1}, ops),
        st.builds(lambda found: {"schemas": PATCH_OP, "Operations": found}, ops),
        st.sampled_from([{"schemas": [PATCH_OP], "Operations": []}, {"Operations": {}}, [], "x", 5]),
    )
    return _mostly(usual, odd, 16)


# -- where, under which conditions, and what is wanted of the answer --------------------------------------------------

SIMPLE = (
    "userName", "USERNAME", "displayName", "externalId", "id", "schemas", "meta", "groups", "members", "active",
    "emails", "name", " title ", "",
)  # fmt: skip
ATTRIBUTES = (
    "emails.value", "name.givenName", "meta.version", "members.value", ENTERPRISE, f"{ENTERPRISE}:department",
    f"{USER}:userName", f"{GROUP}:displayName", "department", "password", "nope", "a b", "nic\u212aname",
    'emails[type eq "work"]',
)  # fmt: skip
PROJECTIONS: Json = st.dictionaries(
    st.sampled_from(["attributes", "excludedAttributes", "ATTRIBUTES", "excludedattributes"]),
    _mostly(
        st.lists(st.sampled_from(SIMPLE), max_size=3), st.lists(st.sampled_from(SIMPLE + ATTRIBUTES), max_size=3), 3
    ).map(",".join),
    min_size=1,
    max_size=1,
) | st.fixed_dictionaries(
    {
        "attributes": st.sampled_from(["", " ", "title", "nope"]),
        "excludedAttributes": st.sampled_from(["", "title", "id"]),
    }
)
VALUES = [f'"{one}"' for one in ("<u0>", "<g0>", "ann", "Ann", "ANN", "data", "Data", "e1", "E1", "", "straße", "Дима")]
EQUAL: dict[str, Json] = {
    kind: st.builds(
        lambda name, word, value: f"{name}{word}{value}",
        st.sampled_from([*names, "externalId", "EXTERNALID", "id", " id"]),
        st.sampled_from([" eq ", " EQ ", "  eq  ", "\teq\n"]),
        st.sampled_from([*VALUES, '"\\u0061nn"', '"q\\"\\\\"', '"\\ud83d\\ude00"', '"ann" ', "ann"]),
    )
    for kind, names in (
        ("Users", ["userName", "UserName", "displayName", "emails", "groups"]),
        ("Groups", ["displayName", "displayname", "members"]),
    )
}
OTHER_FILTERS: Json = st.builds(
    lambda name, word, value: f"{name}{word}{value}",
    st.sampled_from(["userName", "displayName", "externalId", "active", "nope"]),
    st.sampled_from([" eq ", " ne ", " sw ", "\u00a0eq ", "\x0beq ", " eq", " pr"]),
    st.sampled_from(
        ["true", "5", "null", '"ann" and active eq true', '"ann', '"\\ud800"', '"\\u0000"', '"\\x"', '"a" ?&', ""]
    ),
)
NUMBERS = _mostly(
    st.sampled_from(["1", "2", "3", "0", "-1", "200", "201", "9" * 25]),
    st.sampled_from(["x", "", "1.0", "1_0", "+2", " 2", "９", "1e1"]),
)
WINDOWS: Json = st.dictionaries(st.sampled_from(["startIndex", "count", "STARTINDEX"]), NUMBERS, max_size=2)


def _sorts(name: str) -> Json:
    """Sort by what is unique: where values are equal the order is that of the ids, which are random."""
    by = st.sampled_from([name, name.upper(), "meta.created", "nope", ""])
    way = st.sampled_from(["ascending", "descending", "Descending", "x"])
    return st.fixed_dictionaries({}, optional={"sortBy": by, "sortOrder": way})


def _query(*parts: dict[str, str] | None) -> str:
    query = urlencode([pair for part in parts for pair in (part or {}).items()])
    return f"?{query}" if query else ""


PROJECTED = _mostly(st.just(""), PROJECTIONS.map(_query), 4)


def _lists(source: str, kind: str) -> Asks:
    nothing: Json = st.just({})
    text = _mostly(_mostly(EQUAL[kind], OTHER_FILTERS, 6).map(lambda found: {"filter": found}), nothing, 4)
    others = (
        WINDOWS,
        _mostly(nothing, PROJECTIONS, 4),
        _mostly(nothing, _sorts(NAMED[kind][0]), 4),
        _mostly(nothing, st.sampled_from([{"cursor": ""}, {"cursor": "<nextCursor>"}, {"cursor": "x"}]), 4),
    )
    return st.tuples(text, *others).map(lambda found: Ask("GET", f"/{kind}{_query(*found)}", source=source))


def _conditions(target: str) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    now = f'W/"<v:{target.strip("<>")}>"'
    tags = st.sampled_from([now, now[2:], 'W/"1"', 'W/"99"', "*", f'W/"99", {now}', "", '"', "nonsense", f"{now},*"])
    name = _mostly(st.just("If-Match"), st.just("If-None-Match"), 3)
    some = st.dictionaries(name, tags, min_size=1, max_size=2).map(lambda found: tuple(found.items()))
    return _mostly(st.just(()), some, 5)


def _about_one(source: str, kind: str, target: str) -> Asks:
    at, under = PROJECTED.map(lambda query: f"/{kind}/{target}{query}"), _conditions(target)

    def asks(method: str, body: Json) -> Asks:
        return st.tuples(at, body, under).map(lambda found: Ask(method, *found, source))

    patch, read = asks("PATCH", _message(kind)), asks("GET", st.none())
    usual = st.one_of(patch, patch, patch, asks("PUT", _document(kind)), read)
    return _mostly(usual, asks("DELETE", st.none()), 12)


def _about(source: str) -> Asks:
    found: list[Asks] = []
    for kind, own, new in zip(("Users", "Groups"), OWN[source], NEW, strict=True):
        paths = PROJECTED.map(f"/{kind}".__add__)
        made = st.tuples(paths, _document(kind)).map(lambda found: Ask("POST", *found, (), source))
        old = st.one_of([_about_one(source, kind, target) for target in own])
        one = _mostly(old, st.one_of([_about_one(source, kind, target) for target in (*new, NOBODY)]), 8)
        found += [one, one, one, made, _lists(source, kind)]
    return st.one_of(found)


REQUESTS: Asks = st.one_of([_about(source) for source in ("okta", "okta", "exact", "other")])


# -- a large group -----------------------------------------------------------------------------------------------------


def members_of_a_large_group(number: int) -> Asks:
    """Draw changes of a group of so many members, about as many as it has or a few."""
    few = st.lists(
        st.sampled_from([f"<u{one}>" for one in (0, 1, number - 1, number, number + 1)] + ["later"]), max_size=3
    )
    many = st.integers(number - 1, number + 2).map(lambda count: [f"<u{one}>" for one in range(count)])
    listed = st.builds(lambda ids: [{"value": one} for one in ids], few)
    all_of_them = st.builds(lambda ids: [{"value": one} for one in ids], many)
    op = st.one_of(
        _op(st.just("add"), st.just("members"), listed),
        _op(st.just("remove"), st.just("members"), listed),
        _op(st.sampled_from(["add", "replace"]), st.just("members"), all_of_them),
        _op(st.just("replace"), st.just("displayName"), st.sampled_from(GROUPS)),
        st.builds(lambda name: {"op": "replace", "value": {"displayName": name}}, st.sampled_from(GROUPS)),
    )
    message = st.builds(lambda ops: {"Operations": ops}, st.lists(op, min_size=1, max_size=2))
    document = st.builds(lambda listed: {"displayName": "Data", "members": listed}, all_of_them)
    query = st.sampled_from(["", "", "?attributes=displayName", "?attributes=", "?excludedAttributes=members"])
    path = query.map("/Groups/<g0>".__add__)
    renamed = st.sampled_from(LOGINS).map(
        lambda name: Ask("PATCH", "/Users/<u0>", {"Operations": [{"op": "replace", "path": "userName", "value": name}]})
    )
    changed = st.tuples(path, message).map(lambda found: Ask("PATCH", *found))
    replaced = st.tuples(path, document).map(lambda found: Ask("PUT", *found))
    read = path.map(lambda found: Ask("GET", found))
    return st.one_of(changed, changed, changed, replaced, renamed, read)
