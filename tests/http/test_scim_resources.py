"""Users as resources: queries, projections, conditions, bulk."""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import quote

import pytest
from support.endpoint import ENTERPRISE, GROUP, USER, Client

BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"


def name() -> str:
    return f"Res-{uuid.uuid4().hex[:10]}"


def found(client: Client, text: str, kind: str = "Users") -> list[str]:
    got = client.get(f"/{kind}?filter={quote(text)}")
    assert got.status == 200, got.raw
    return [one["id"] for one in got.json["Resources"]]


def test_filters_of_the_identity_providers(okta: Client) -> None:
    login = name()
    mail = f"{login}@corp.local"
    user = okta.user(
        login,
        externalId=f"00u{login}",
        displayName=f"D {login}",
        title=f"T {login}",
        emails=[{"value": f"home-{mail}", "type": "home"}, {"value": mail, "type": "work", "primary": True}],
    )
    other = okta.user(name())
    group = okta.group(name(), user["id"])
    for text in (
        f'userName eq "{login.upper()}"',
        f"userName eq {login}",
        f'USERNAME EQ "{login}"',
        f'{USER}:userName eq "{login}"',
        f'externalId eq "00u{login}"',
        f'id eq "{user["id"]}"',
        f'emails eq "{mail.upper()}"',
        f'emails.value eq "{mail}"',
        f'emails[type eq "work"].value eq "{mail}"',
        f'emails[type eq "home"].value eq "home-{mail}"',
        f'emails[type eq "work" and value eq "{mail}"]',
        f'displayName eq "d {login}"',
        f'title eq "t {login}"',
        f'userName eq "{login}" and externalId eq "00u{login}" and active eq true',
        f'userName sw "{login[:-1]}" and not (title eq "x")',
        f'groups.value eq "{group["id"]}"',
        f'userName eq "{login}"?',
    ):
        assert found(okta, text) == [user["id"]], text
    for text in (f'externalId eq "00U{login}"', f'emails[type eq "home"].value eq "{mail}"', f'title eq "{login}"'):
        assert found(okta, text) == [], text
    for text in (
        f'displayName eq "{group["displayName"].upper()}"',
        f'members eq "{user["id"]}" and id eq "{group["id"]}"',
        f'members.value eq "{user["id"]}"',
        f'members[value eq "{user["id"]}"]',
    ):
        assert found(okta, text, "Groups") == [group["id"]], text
    assert found(okta, f'members eq "{other["id"]}"', "Groups") == []


@pytest.mark.parametrize(
    "text",
    ["", "userName", "userName eq", 'nothing eq "x"', 'userName xx "x"', "active gt true", 'userName eq "x', "(", '"'],
)
def test_a_bad_filter(okta: Client, text: str) -> None:
    assert okta.get(f"/Users?filter={quote(text)}").is_scim_error(400, "invalidFilter")


BEYOND = {
    "deep": "(" * 33 + "title pr" + ")" * 33,
    "wide": " or ".join(["title pr"] * 51),
    "long": 'title eq "' + "a" * 4096 + '"',
}


@pytest.mark.parametrize("what", BEYOND)
def test_a_filter_beyond_its_limits(okta: Client, what: str) -> None:
    text = BEYOND[what]
    assert okta.get(f"/Users?filter={quote(text)}").is_scim_error(400, "invalidFilter")
    assert okta.send("POST", "/Users/.search", {"filter": text}).is_scim_error(400, "invalidFilter")
    user = okta.user(name())
    got = okta.patch(f"/Users/{user['id']}", {"op": "remove", "path": f"emails[{text}]"})
    assert got.is_scim_error(400, "invalidPath")


def test_a_filter_holds_no_nul(okta: Client) -> None:
    assert okta.get("/Users?filter=title+eq+%22%00%22").is_scim_error(400, "invalidFilter")


def test_pages_are_stable_and_bounded(entra: Client) -> None:
    made = [entra.user(name())["id"] for _ in range(7)]
    everyone = [one["id"] for one in entra.get("/Users?count=200").json["Resources"]]
    assert everyone[-7:] == made
    seen = []
    for start in range(1, len(everyone) + 1, 3):
        page = entra.get(f"/Users?startIndex={start}&count=3").json
        assert (page["totalResults"], page["startIndex"]) == (len(everyone), start)
        seen += [one["id"] for one in page["Resources"]]
    assert seen == everyone
    for query in ("count=0", "count=-5", "startIndex=100000", "startIndex=99999999999999999999"):
        assert entra.get(f"/Users?{query}").json["Resources"] == []
    assert entra.get("/Users?startIndex=-3&count=1").json["startIndex"] == 1
    assert entra.get("/Users?count=many").is_scim_error(400, "invalidValue")
    assert entra.get("/Users?count=1&count=2").is_scim_error(400, "invalidValue")
    ordered = entra.get("/Users?sortBy=userName&sortOrder=descending&count=200").json["Resources"]
    names = [one["userName"].casefold() for one in ordered]
    assert names == sorted(names, reverse=True)


def test_strange_query_parameters_are_ignored(okta: Client) -> None:
    user = okta.user(name())
    for query in ("?aadOptscim062020", "?&", "??", "?x=1&x=2", "?aadOptscim062020=&&"):
        assert okta.get(f"/Users/{user['id']}{query}").json["id"] == user["id"]
    assert okta.get(f"/Users?filter=userName+eq+%22{user['userName']}%22&").json["totalResults"] == 1


@pytest.mark.parametrize(
    "path", ["/Users/{id}", '/Users?filter=id+eq+"{id}"', '/Users?filter=id+eq+"{id}"+and+active+pr']
)
def test_projections(okta: Client, path: str) -> None:
    user = okta.user(name(), title="T", **{ENTERPRISE: {"department": "d"}})
    target = path.format(id=user["id"]).replace('"', "%22")
    join = "&" if "?" in target else "?"

    def shown(query: str) -> Any:
        got = okta.get(target + join + query).json
        return got["Resources"][0] if "Resources" in got else got

    assert shown("attributes=title") == {"schemas": [USER], "id": user["id"], "title": "T"}
    assert shown("attributes=TITLE,userName").keys() == {"schemas", "id", "title", "userName"}
    assert shown("excludedAttributes=title,meta").keys() == user.keys() - {"title", "meta"}
    assert shown(f"attributes={ENTERPRISE}:department")[ENTERPRISE] == {"department": "d"}
    assert shown("excludedAttributes=id")["id"] == user["id"]


def test_rows_and_core_give_the_same_answer(okta: Client) -> None:
    """Ask once in a form rows serve and once in a form only the core does."""
    user = okta.user(name(), title="T", name={"givenName": "G"}, emails=[{"value": "a@x.test", "primary": True}])
    group = okta.group(name(), user["id"])
    for path in (f"/Users/{user['id']}", f"/Groups/{group['id']}"):
        quick, slow = okta.get(path), okta.get(f"{path}?excludedAttributes=externalId,name.middleName")
        assert quick.json == slow.json
        assert {key: quick.headers[key] for key in ("etag", "content-location", "content-type")} == {
            key: slow.headers[key] for key in ("etag", "content-location", "content-type")
        }


def test_conditions(okta: Client) -> None:
    user = okta.user(name())
    group = okta.group(name())
    path, stale = f"/Users/{user['id']}", 'W/"99"'
    tag = okta.get(path).headers["etag"]
    assert okta.get(path, If_None_Match=tag).status == 304
    assert okta.get(f"{path}?attributes=name.givenName", If_None_Match=tag).status == 304
    assert okta.get(path, If_None_Match=stale).status == 200
    inactive = {"op": "replace", "path": "active", "value": False}
    titled = {"op": "replace", "path": "title", "value": "x"}
    refused = [
        okta.patch(path, inactive, If_Match=stale),
        okta.patch(path, titled, If_Match=stale),
        okta.send("PUT", path, user, {"If-Match": stale}),
        okta.send("DELETE", path, headers={"If-Match": stale}),
        okta.patch(f"/Groups/{group['id']}", {"op": "remove", "path": "members"}, If_Match=stale),
        okta.send("DELETE", f"/Groups/{group['id']}", headers={"If-Match": stale}),
    ]
    assert [got.status for got in refused] == [412] * 6
    assert okta.get(path).headers["etag"] == tag
    changed = okta.patch(path, inactive, If_Match=tag)
    assert (changed.status, changed.headers["etag"]) == (200, 'W/"2"')
    assert okta.patch(path, inactive).headers["etag"] == 'W/"2"'


def test_old_and_foreign_schema_names(okta: Client) -> None:
    old = {"schemas": ["urn:scim:schemas:core:1.0"], "userName": name(), "emails": {"value": "o@corp.local"}}
    old["urn:scim:schemas:extension:enterprise:1.0"] = {"department": "d"}
    got = okta.send("POST", "/Users", old).json
    assert (got["schemas"], got["emails"]) == ([USER, ENTERPRISE], [{"value": "o@corp.local"}])
    assert got[ENTERPRISE] == {"department": "d"}
    foreign = "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"
    assert okta.send("POST", "/Groups", {"schemas": [GROUP, foreign], "displayName": name()}).status == 201


def test_bulk_runs_each_operation_for_itself(okta: Client) -> None:
    leaver, login, team = okta.user(name()), name(), name()

    def inactive(value: str) -> dict[str, Any]:
        return {"Operations": [{"op": "Replace", "path": "active", "value": value}]}

    path = f"/Users/{leaver['id']}"
    grouped = {"displayName": team, "members": [{"value": "bulkId:u"}]}
    operations = [
        {"method": "POST", "path": "/Groups", "bulkId": "g", "data": grouped},
        {"method": "POST", "path": "/Users", "bulkId": "u", "data": {"userName": login, "password": "p"}},
        {"method": "POST", "path": "/Users", "bulkId": "again", "data": {"userName": login}},
        {"method": "PATCH", "path": path, "data": inactive("no")},
        {"method": "PATCH", "PATH": path, "DATA": inactive("False")},
        {"method": "DELETE", "path": "/Users/nobody"},
        {"method": "PUT", "path": f"/{path}/", "data": {"userName": leaver["userName"], "active": "no"}},
    ]
    got = okta.send("POST", "/Bulk", {"schemas": [BULK], "Operations": operations})
    assert got.status == 200
    assert [one["status"] for one in got.json["Operations"]] == ["201", "201", "409", "400", "200", "404", "400"]
    user = okta.get(f"/Users?filter=userName+eq+%22{login}%22").json["Resources"][0]
    assert [one["display"] for one in user["groups"]] == [team]
    assert okta.get(path).json["active"] is False


def test_bulk_limits(okta: Client) -> None:
    one = {"method": "DELETE", "path": "/Users/x"}
    assert okta.send("POST", "/Bulk", {"schemas": [BULK], "Operations": [one] * 1001}).is_scim_error(413)
    got = okta.send("POST", "/Bulk", {"schemas": [BULK], "failOnErrors": 2, "Operations": [one] * 5})
    assert len(got.json["Operations"]) == 2


def test_search_by_post(okta: Client) -> None:
    user = okta.user(name())
    search = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "attributes": ["userName"]}
    for path in ("/Users/.search", "/.search"):
        body = okta.send("POST", path, {**search, "filter": f"userName eq {user['userName']}"}).json
        assert body["Resources"] == [{"schemas": [USER], "id": user["id"], "userName": user["userName"]}]


def test_a_strict_source_forgives_nothing(exact: Client) -> None:
    user = exact.user(name())
    path = f"/Users/{user['id']}"
    refused: list[dict[str, Any]] = [
        {"op": "replace", "path": "nothing", "value": 1},
        {"op": "add", "path": f"{ENTERPRISE}:manager", "value": "someone"},
        {"op": "add", "path": 'phoneNumbers[type eq "mobile"].value', "value": "1"},
        {"op": "replace", "path": "title", "value": "x", "name": "y"},
    ]
    for operation in refused:
        assert exact.patch(path, operation).status == 400, operation
    group = exact.group(name(), user["id"])
    removal = {"op": "remove", "path": "members", "value": [{"value": user["id"]}]}
    assert exact.patch(f"/Groups/{group['id']}", removal).status == 400
    assert exact.members(group["id"]) == {user["id"]}
    assert exact.get(f"/Users?filter=userName+eq+{user['userName']}").is_scim_error(400, "invalidFilter")
    assert exact.send("POST", "/Users", {"schemas": [USER], "userName": name(), "nothing": 1}).status == 400
    assert exact.patch(path, {"op": "replace", "path": "active", "value": False}).json["active"] is False
    filtered = {"op": "remove", "path": f'members[value eq "{user["id"]}"]'}
    assert exact.patch(f"/Groups/{group['id']}", filtered).status == 200
    assert exact.members(group["id"]) == set()
