"""The stand-in of Microsoft Graph and of Entra's token endpoint against what is documented and recorded."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from support.idps import Graph

from idsync.sandbox.graph.service import CLIENT, IDENTITY_HEADER

from . import shapes
from .client import Answer

Row = dict[str, Any]
V1 = "/v1.0"
EVENTUAL = {"ConsistencyLevel": "eventual"}
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
WATCHED = "id,accountEnabled,userPrincipalName,mail"


def people(graph: Graph, number: int) -> list[str]:
    """Seed so many people and return their ids."""
    names = [f"p{n}@example.com" for n in range(number)]
    graph.seed(users=[{"userPrincipalName": name} for name in names])
    return [graph.ids[name] for name in names]


def walk(graph: Graph, path: str, query: Row | None = None, **headers: str) -> tuple[list[Row], str]:
    """Every item of a listing, and its deltaLink."""
    answer = graph.api(path, query, headers=headers)
    rows = list(answer.body["value"])
    while following := answer.body.get("@odata.nextLink"):
        answer = graph.api(following, headers=headers)
        rows += answer.body["value"]
    return rows, answer.body.get("@odata.deltaLink", "")


def ids(rows: list[Row]) -> list[str]:
    return [row["id"] for row in rows]


# listings


def test_users_have_what_is_selected_and_account_enabled_only_then(graph: Graph) -> None:
    [ann] = people(graph, 1)
    [usual] = graph.api(f"{V1}/users").body["value"]
    assert list(usual) == [
        *("businessPhones", "displayName", "givenName", "jobTitle", "mail", "mobilePhone", "officeLocation"),
        *("preferredLanguage", "surname", "userPrincipalName", "id"),
    ]
    answer = graph.api(f"{V1}/users", {"$select": "id,accountEnabled,userType"})
    assert answer.body["value"] == [{"id": ann, "accountEnabled": True, "userType": "Member"}]
    assert answer.body["@odata.context"].endswith("/v1.0/$metadata#users(id,accountEnabled,userType)")
    one = graph.api(f"{V1}/users/p0@example.com", {"$select": "accountEnabled"}).body
    assert one == {"@odata.context": one["@odata.context"], "accountEnabled": True, "id": ann}


def test_pages_follow_the_next_link_and_have_a_largest_size(graph: Graph) -> None:
    graph.seed(many={"users": 1000})
    assert len(graph.api(f"{V1}/users").body["value"]) == 100
    first = graph.api(f"{V1}/users", {"$select": "id", "$top": 999}).body
    last = graph.api(first["@odata.nextLink"]).body
    assert (len(first["value"]), len(last["value"]), "@odata.nextLink" in last) == (999, 1, False)
    assert graph.api(f"{V1}/users", {"$top": 1000}).status == 400


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/users/nobody", 404, "Request_ResourceNotFound"),
        ("/groups/nothing", 404, "Request_ResourceNotFound"),
        ("/users?$select=shoeSize", 400, "BadRequest"),
        ("/users?$filter=jobTitle+ne+null", 400, "Request_UnsupportedQuery"),
        ("/users/delta?$top=5", 400, "Request_UnsupportedQuery"),
        ("/users/delta?$deltatoken=made-up", 400, "syncStateNotFound"),
        ("/nonsense", 400, "BadRequest"),
    ],
)
def test_errors_are_of_graphs_form(graph: Graph, path: str, status: int, code: str) -> None:
    answer = graph.api(V1 + path)
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert shapes.shape(answer.body) == shapes.shape(shapes.GRAPH_NOT_FOUND)
    assert answer.headers["request-id"] == answer.body["error"]["innerError"]["request-id"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/users?$filter=accountEnabled eq false", ["p1"]),
        ("/users?$filter=userPrincipalName eq 'p0@example.com'", ["p0"]),
        ("/users?$filter=startswith(userPrincipalName,'P')", ["p0", "p1"]),
    ],
)
def test_a_few_filters_are_understood(graph: Graph, path: str, found: list[str]) -> None:
    people(graph, 2)
    graph.act("disable", user="p1@example.com")
    rows = graph.api(V1 + path.replace(" ", "%20")).body["value"]
    assert [row["userPrincipalName"][:2] for row in rows] == found


# groups


def nested(graph: Graph) -> list[str]:
    """ai-eng has p0 and the group ai-core, which has p1 and p0."""
    found = people(graph, 3)
    graph.seed(groups=[{"displayName": "ai-core", "members": [found[1], found[0]]}])
    graph.seed(groups=[{"displayName": "ai-eng", "members": [found[0], "ai-core"]}])
    return found


def test_transitive_members_are_an_advanced_query(graph: Graph) -> None:
    p0, p1, _ = nested(graph)
    group = f"{V1}/groups/{graph.ids['ai-eng']}"
    direct = graph.api(f"{group}/members").body["value"]
    assert [(row["id"], row["@odata.type"]) for row in direct] == [
        (p0, "#microsoft.graph.user"),
        (graph.ids["ai-core"], "#microsoft.graph.group"),
    ]
    cast = f"{group}/transitiveMembers/microsoft.graph.user"
    assert graph.api(cast).body["error"]["code"] == "Request_UnsupportedQuery"
    answer = graph.api(cast, {"$count": "true", "$select": "id", "$top": 1}, headers=EVENTUAL)
    assert answer.body["@odata.count"] == 2
    everybody, _ = walk(graph, cast, {"$count": "true", "$select": "id", "$top": 1}, **EVENTUAL)
    assert sorted(ids(everybody)) == sorted([p0, p1])
    counts = [graph.api(f"{group}/{what}/$count", headers=EVENTUAL) for what in ("members", "transitiveMembers")]
    assert [(answer.body, answer.headers["content-type"]) for answer in counts] == [
        (2, "text/plain"),
        (3, "text/plain"),
    ]
    assert graph.api(f"{group}/members/$count").status == 400


def test_membership_of_one_person_is_checked_transitively(graph: Graph) -> None:
    _, p1, p2 = nested(graph)
    both = [graph.ids["ai-eng"], graph.ids["ai-core"]]

    def check(user: str, groups: list[str]) -> Answer:
        return graph.api(f"{V1}/users/{user}/checkMemberGroups", method="POST", body={"groupIds": groups})

    assert sorted(check(p1, both).body["value"]) == sorted(both)
    assert check(p2, both).body["value"] == []
    assert check(p1, both * 11).status == 400
    graph.act("hide_group", group="ai-eng")
    assert check(p1, both).body["value"] == [graph.ids["ai-core"]]  # left out without a word
    assert graph.api(f"{V1}/groups/{graph.ids['ai-eng']}/members").status == 403


def test_without_the_permission_for_users_members_have_an_id_and_nulls(graph: Graph) -> None:
    [ann] = people(graph, 1)
    graph.seed(groups=[{"displayName": "ai-eng", "members": [ann]}])
    graph.options(roles=["GroupMember.Read.All"])
    cast = f"{V1}/groups/{graph.ids['ai-eng']}/transitiveMembers/microsoft.graph.user"
    [member] = graph.api(cast, {"$select": WATCHED}, headers=EVENTUAL).body["value"]
    assert member == {
        "@odata.type": "#microsoft.graph.user",
        "id": ann,
        "accountEnabled": None,
        "userPrincipalName": None,
        "mail": None,
    }
    refused = [graph.api(V1 + path) for path in ("/users", f"/users/{ann}", "/users/delta", "/servicePrincipals")]
    assert {(a.status, a.body["error"]["code"]) for a in refused} == {(403, "Authorization_RequestDenied")}


def test_groups_that_cannot_be_read_any_more(graph: Graph) -> None:
    nested(graph)
    graph.options(unseen_groups=["ai-eng"])
    assert [row["displayName"] for row in graph.api(f"{V1}/groups").body["value"]] == ["ai-core"]
    assert graph.api(f"{V1}/groups/{graph.ids['ai-eng']}/members").status == 403


def test_a_group_made_again_has_another_id(graph: Graph) -> None:
    nested(graph)
    made = graph.act("recreate_group", group="ai-core")["id"]
    assert graph.api(f"{V1}/groups/{graph.ids['ai-core']}").status == 404
    assert graph.api(f"{V1}/groups/{made}").body["displayName"] == "ai-core"
    assert len(graph.api(f"{V1}/groups/{made}/members").body["value"]) == 2
    assert len(graph.api(f"{V1}/groups/{graph.ids['ai-eng']}/members").body["value"]) == 1


# deletion


def test_deleted_people_can_be_found_and_restored_until_they_are_gone(graph: Graph) -> None:
    ann, bob = people(graph, 2)
    graph.seed(groups=[{"displayName": "ai-eng", "members": [ann, bob]}])
    members = f"{V1}/groups/{graph.ids['ai-eng']}/members"
    graph.act("soft_delete", user=ann)
    assert graph.api(f"{V1}/users/{ann}").status == 404
    assert ids(graph.api(f"{V1}/directory/deletedItems/microsoft.graph.user").body["value"]) == [ann]
    assert graph.api(f"{V1}/directory/deletedItems/{ann}").body["deletedDateTime"].endswith("Z")
    assert ids(graph.api(members).body["value"]) == [bob]
    graph.act("restore", user=ann)
    assert ids(graph.api(members).body["value"]) == [ann, bob]
    graph.act("hard_delete", user=ann)
    assert graph.api(f"{V1}/directory/deletedItems/{ann}").status == 404
    assert ids(graph.api(members).body["value"]) == [bob]


# delta


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ([("disable", {})], {"accountEnabled": False}),
        ([("disable", {}), ("enable", {})], {"accountEnabled": True}),
        ([("change_user", {"accountEnabled": None})], {"accountEnabled": None}),
        ([("change_user", {"displayName": "New"})], None),  # not selected, not told
        ([("soft_delete", {})], {"@removed": {"reason": "changed"}}),
        ([("hard_delete", {})], {"@removed": {"reason": "deleted"}}),
        ([("soft_delete", {}), ("restore", {})], {"accountEnabled": True}),
        ([("odd", {"accountEnabled": "yes"})], {"accountEnabled": "yes"}),
    ],
)
def test_users_delta_tells_what_changed_since(graph: Graph, acts: list[tuple[str, Row]], expected: Row | None) -> None:
    [ann, bob] = people(graph, 2)
    rows, since = walk(graph, f"{V1}/users/delta", {"$select": WATCHED})
    assert ids(rows) == [ann, bob]
    assert walk(graph, since)[0] == []
    for act, what in acts:
        graph.act(act, user=ann, **what)
    rows, _ = walk(graph, since)
    assert [{name: row.get(name) for name in expected or ()} for row in rows] == ([expected] if expected else [])
    assert ids(rows) == ([ann] if expected else [])


def test_groups_delta_tells_who_came_and_went_as_documented(graph: Graph) -> None:
    ann, bob, cyd = people(graph, 3)
    graph.seed(groups=[{"displayName": "ai-eng", "members": [ann, bob], "description": "x"}, {"displayName": "empty"}])
    query = {"$select": "displayName,description,members"}
    first = graph.api(f"{V1}/groups/delta", query, headers={"Prefer": "odata.maxpagesize=1"}).body
    assert shapes.shape(first) == shapes.shape(shapes.GRAPH_GROUPS_DELTA)
    rows, since = walk(graph, f"{V1}/groups/delta", query)
    assert ["members@delta" in row for row in rows] == [True, False]
    graph.act("leave", group="ai-eng", member=ann)
    graph.act("join", group="ai-eng", member=cyd)
    graph.act("delete_group", group="empty")
    changed, gone = walk(graph, since)[0]
    assert changed["members@delta"] == [
        {"@odata.type": "#microsoft.graph.user", "id": ann, "@removed": {"reason": "deleted"}},
        {"@odata.type": "#microsoft.graph.user", "id": cyd},
    ]
    assert gone == {"id": graph.ids["empty"], "@removed": {"reason": "deleted"}}


def test_a_person_deleted_for_good_does_not_show_in_the_delta_of_their_groups(graph: Graph) -> None:
    ann, bob = people(graph, 2)
    graph.seed(groups=[{"displayName": "ai-eng", "members": [ann, bob]}])
    _, since = walk(graph, f"{V1}/groups/delta", {"$select": "members"})
    graph.act("hard_delete", user=ann)
    assert walk(graph, since)[0] == []


def test_a_large_group_is_spread_over_pages_and_named_on_each(graph: Graph) -> None:
    found = people(graph, 25)
    graph.seed(groups=[{"displayName": "large", "members": found}, {"displayName": "small", "members": found[:2]}])
    graph.options(delta_members=10)
    rows, _ = walk(graph, f"{V1}/groups/delta", {"$select": "displayName,members"})
    assert [(row["displayName"], len(row["members@delta"])) for row in rows] == [
        *[("large", 10), ("large", 10), ("large", 5), ("small", 2)]
    ]


def test_pages_of_a_delta_are_as_large_as_preferred(graph: Graph) -> None:
    people(graph, 5)
    pages = [graph.api(f"{V1}/users/delta", headers={"Prefer": "odata.maxpagesize=2"}).body]
    while following := pages[-1].get("@odata.nextLink"):
        pages.append(graph.api(following, headers={"Prefer": "odata.maxpagesize=2"}).body)
    assert [len(page["value"]) for page in pages][:3] == [2, 2, 1]
    assert ["@odata.deltaLink" in page for page in pages] == [False] * (len(pages) - 1) + [True]


def test_what_changes_while_a_round_is_read_comes_with_the_next(graph: Graph) -> None:
    ann, _ = people(graph, 2)
    first = graph.api(f"{V1}/users/delta", {"$select": WATCHED}, headers={"Prefer": "odata.maxpagesize=1"}).body
    graph.act("disable", user=ann)
    _, since = walk(graph, first["@odata.nextLink"])
    assert [(row["id"], row["accountEnabled"]) for row in walk(graph, since)[0]] == [(ann, False)]


def test_items_repeat_and_come_in_any_order(graph: Graph) -> None:
    found = people(graph, 40)
    graph.options(delta_noise=3)
    rows, _ = walk(graph, f"{V1}/users/delta", {"$select": "id"})
    assert set(ids(rows)) == set(found)
    assert len(rows) > len(found)
    assert list(dict.fromkeys(ids(rows))) != found


def test_latest_begins_from_now_and_the_token_is_bound_to_its_select(graph: Graph) -> None:
    [ann] = people(graph, 1)
    rows, since = walk(graph, f"{V1}/users/delta", {"$select": "id,mail", "$deltaToken": "latest"})
    assert rows == []
    graph.act("disable", user=ann)
    assert walk(graph, since)[0] == []
    graph.act("change_user", user=ann, mail="new@example.com")
    assert walk(graph, since)[0] == [{"id": ann, "mail": "new@example.com"}]
    assert graph.api(since + "&$select=id,accountEnabled").status == 400


@pytest.mark.parametrize("how", ["age", "forgotten"])
@pytest.mark.parametrize("status", [410, 400])
def test_a_token_too_old_asks_for_a_full_round(graph: Graph, how: str, status: int) -> None:
    people(graph, 1)
    _, since = walk(graph, f"{V1}/users/delta", {"$select": WATCHED})
    graph.options(expired_delta=status)
    if how == "age":
        graph.move_clock(7 * 86400)
        graph.forget_token()  # it has expired as well
    else:
        graph.act("forget_deltas")
    answer = graph.api(since)
    assert (answer.status, answer.body["error"]["code"]) == (status, "syncStateNotFound")
    if status == 410:
        again = graph.api(answer.headers["location"])
        assert len(again.body["value"]) == 1


# the enterprise app


def test_app_assignments_name_people_and_groups(graph: Graph) -> None:
    [ann] = people(graph, 1)
    graph.seed(groups=[{"displayName": "ai-eng"}])
    graph.seed(servicePrincipals=[{"displayName": "gateway", "appId": "app-1", "assigned": [ann, "ai-eng"]}])
    path = f"{V1}/servicePrincipals/{graph.ids['gateway']}"
    rows = graph.api(f"{path}/appRoleAssignedTo").body["value"]
    assert [(row["principalType"], row["principalId"]) for row in rows] == [
        ("User", ann),
        ("Group", graph.ids["ai-eng"]),
    ]
    assert graph.api(f"{V1}/servicePrincipals(appId='app-1')").body["id"] == graph.ids["gateway"]
    graph.act("unassign", principal="gateway", to=ann)
    assert len(graph.api(f"{path}/appRoleAssignedTo").body["value"]) == 1


# batches and budgets


def batch(graph: Graph, *urls: str) -> dict[str, Row]:
    requests = [{"id": str(n), "method": "GET", "url": url} for n, url in enumerate(urls)]
    answer = graph.api(f"{V1}/$batch", method="POST", body={"requests": requests})
    assert answer.status == 200
    return {row["id"]: row for row in answer.body["responses"]}


def test_a_batch_answers_200_whatever_its_parts_say(graph: Graph) -> None:
    [ann] = people(graph, 1)
    graph.break_with(f"{V1}/users/p0@example.com", throttle="rate")
    parts = batch(graph, f"/users/{ann}?$select=id", "/users/nobody", "users/p0@example.com")
    assert [parts[n]["status"] for n in "012"] == [200, 404, 429]
    assert parts["0"]["body"]["id"] == ann
    assert parts["2"]["headers"]["Retry-After"] == "10"
    many = [{"id": str(n), "method": "GET", "url": "/users"} for n in range(21)]
    assert graph.api(f"{V1}/$batch", method="POST", body={"requests": many}).status == 400


def test_resource_units_run_out_and_low_priority_goes_first(graph: Graph) -> None:
    [ann] = people(graph, 1)
    graph.seed(groups=[{"displayName": "ai-eng", "members": [ann]}])
    costs = {
        "/users": "2",
        "/users?$select=id": "1",
        f"/users/{ann}": "1",
        f"/groups/{graph.ids['ai-eng']}/members": "3",
        f"/groups/{graph.ids['ai-eng']}/transitiveMembers": "5",
        f"/groups/{graph.ids['ai-eng']}/transitiveMembers?$select=id&$top=5": "3",
    }
    assert {path: graph.api(V1 + path).headers["x-ms-resource-unit"] for path in costs} == costs
    graph.options(units=10)
    told = [graph.api(f"{V1}/users") for _ in range(5)]
    assert [answer.headers.get("x-ms-throttle-limit-percentage") for answer in told] == [None] * 4 + ["1.00"]
    over = graph.api(f"{V1}/users")
    assert (over.status, over.body["error"]["code"], over.headers["retry-after"]) == (429, "TooManyRequests", "10")
    assert over.headers["x-ms-throttle-scope"].startswith("Tenant_Application/")
    graph.move_clock(10)
    priority = {"x-ms-throttle-priority": "low"}
    assert [graph.api(f"{V1}/users", headers=priority).status for _ in range(5)] == [200] * 4 + [429]
    assert graph.api(f"{V1}/users").status == 200
    assert graph.asked()[-2]["headers"]["x-ms-throttle-priority"] == "low"


# who may ask


def test_the_configuration_has_what_msal_reads(graph: Graph) -> None:
    rest = "/" + graph.authority.split("/", 3)[3]
    for path in (f"{rest}/v2.0/.well-known/openid-configuration", f"{rest}/.well-known/openid-configuration"):
        found = graph.get(path, key=None).body
        assert found["token_endpoint"] == graph.authority.replace("http:", "https:") + "/oauth2/v2.0/token"
        assert {"authorization_endpoint", "issuer"} <= found.keys()


@pytest.mark.parametrize(
    ("form", "options", "status", "error", "code"),
    [
        ({"client_secret": "wrong"}, {}, 401, "invalid_client", 7000215),
        (
            {},
            {"clients": [{"client_id": CLIENT, "secrets": [{"value": "s", "expires": "2020-01-01T00:00:00Z"}]}]},
            401,
            "invalid_client",
            7000222,
        ),
        ({"client_secret": None}, {}, 401, "invalid_client", 7000218),
        ({"client_id": "nobody"}, {}, 400, "unauthorized_client", 700016),
        ({"scope": "User.Read.All"}, {}, 400, "invalid_scope", 1002012),
        ({"scope": "https://graph.example.com/.default"}, {}, 400, "invalid_resource", 500011),
        ({}, {"tenant": "another"}, 400, "invalid_request", 90002),
    ],
)
def test_entra_refuses_in_its_own_words(
    graph: Graph, form: Row, options: Row, status: int, error: str, code: int
) -> None:
    graph.options(**options)
    answer = graph.token(**({"client_secret": "s"} if code == 7000222 else {}) | form)
    assert (answer.status, answer.body["error"], answer.body["error_codes"]) == (status, error, [code])
    assert answer.body["error_description"].startswith(f"AADSTS{code}: ")
    assert shapes.shape(answer.body) == shapes.shape(shapes.ENTRA_REFUSAL)
    assert "wrong" not in json.dumps(graph.asked())


def test_a_token_is_needed_and_expires(graph: Graph) -> None:
    assert graph.token().body.keys() == {"token_type", "expires_in", "ext_expires_in", "access_token"}
    for authorization in ("", "Bearer made-up"):
        answer = graph.api(f"{V1}/users", headers={"Authorization": authorization})
        assert (answer.status, answer.body["error"]["code"]) == (401, "InvalidAuthenticationToken")
    assert graph.api(f"{V1}/users").status == 200
    graph.move_clock(3600)
    assert graph.api(f"{V1}/users").status == 401


class Certificate:
    """A key and its certificate, valid until so many days from now."""

    def __init__(self, days: float = 30) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idsync")]), datetime.now(UTC)
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self.key.public_key())
        made = (
            made.serial_number(1).not_valid_before(now - timedelta(days=60)).not_valid_after(now + timedelta(days=days))
        )
        signed = made.sign(self.key, hashes.SHA256())
        self.pem = signed.public_bytes(serialization.Encoding.PEM).decode()
        self._digest = hashlib.sha256(signed.public_bytes(serialization.Encoding.DER)).digest()

    def assertion(self, graph: Graph, **claims: Any) -> str:
        now = int(time.time())
        address = graph.authority.replace("http:", "https:") + "/oauth2/v2.0/token"
        usual = {"iss": CLIENT, "sub": CLIENT, "aud": address, "nbf": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        header = {"x5t#S256": base64.urlsafe_b64encode(self._digest).decode()}  # padded, as msal writes it
        return jwt.encode(usual | claims, self.key, "PS256", headers=header)

    def token(self, graph: Graph, assertion: str) -> Answer:
        return graph.token(client_secret=None, client_assertion=assertion, client_assertion_type=ASSERTION)


def test_a_certificate_is_verified(graph: Graph) -> None:
    mine, other, old = Certificate(), Certificate(), Certificate(days=-1)
    graph.options(clients=[{"client_id": CLIENT, "certificates": [mine.pem, old.pem]}])
    good = mine.assertion(graph)
    assert mine.token(graph, good).status == 200
    assert good not in json.dumps(graph.asked())
    head, signature = (mine.assertion(graph).rpartition(".")[end] for end in (0, 2))  # of two assertions
    tries = {
        700027: [other.assertion(graph), old.assertion(graph), f"{head}.{signature}"],
        700023: [mine.assertion(graph, aud="https://login.microsoftonline.com/other/oauth2/v2.0/token")],
        700024: [mine.assertion(graph, exp=1000, nbf=1)],
        700021: [mine.assertion(graph, sub="other")],
        50027: ["nonsense"],
    }
    told = {code: [mine.token(graph, a).body["error_codes"] for a in given] for code, given in tries.items()}
    assert told == {code: [[code]] * len(given) for code, given in tries.items()}


def test_a_federated_assertion_needs_issuer_subject_and_audience(graph: Graph) -> None:
    issuer, key = "https://oidc.example.com/cluster", rsa.generate_private_key(65537, 2048)
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    subject = "system:serviceaccount:ai:idsync"
    known = {"issuer": issuer, "subject": subject, "audience": "api://AzureADTokenExchange", "key": pem.decode()}
    graph.options(clients=[{"client_id": CLIENT, "federated": [known]}])

    def codes(**claims: str) -> list[int]:
        now = int(time.time())
        usual = {"iss": issuer, "sub": subject, "aud": known["audience"], "iat": now, "exp": now + 300}
        signed = jwt.encode(usual | claims, key, "RS256")
        answer = graph.token(client_secret=None, client_assertion=signed, client_assertion_type=ASSERTION)
        found: list[int] = answer.body.get("error_codes", [])
        return found

    assert [codes(), codes(sub="other"), codes(aud="other")] == [[], [700213], [700212]]


def test_a_managed_identity_gets_a_token_the_app_service_way(graph: Graph) -> None:
    path = "/entra/msi/token?api-version=2019-08-01&resource=https://graph.microsoft.com"
    answer = graph.get(path, key=None, headers={"X-IDENTITY-HEADER": IDENTITY_HEADER, "Metadata": "true"})
    assert answer.body.keys() == {"access_token", "expires_on", "resource", "token_type", "client_id"}
    assert int(answer.body["expires_on"]) > time.time()
    bearer = {"Authorization": f"Bearer {answer.body['access_token']}"}
    assert graph.api(f"{V1}/users", headers=bearer).status == 200
    assert graph.get(path, key=None, headers={"X-IDENTITY-HEADER": "wrong"}).status == 401


# what goes wrong on purpose; there are 6 people, 2 on a page


def _page(graph: Graph, number: int, path: str) -> Answer:
    headers = {"Prefer": "odata.maxpagesize=2"}
    answer = graph.api(f"{V1}/{path}", headers=headers)
    for _ in range(number - 1):
        answer = graph.api(answer.body["@odata.nextLink"], headers=headers)
    return answer


def _upns(answer: Answer) -> list[str]:
    return [row["userPrincipalName"][:2] for row in answer.body["value"]]


def _code(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.body["error"]["code"] if isinstance(
        answer.body, dict
    ) and "error" in answer.body else None


WRONG: dict[str, tuple[Row, Callable[[Answer], object], object]] = {
    "401": ({"status": 401}, _code, (401, "InvalidAuthenticationToken")),
    "403": ({"status": 403}, _code, (403, "Authorization_RequestDenied")),
    "404": ({"status": 404}, _code, (404, "Request_ResourceNotFound")),
    "410": ({"status": 410}, _code, (410, "syncStateNotFound")),
    "429": ({"throttle": "rate"}, lambda a: (a.status, a.headers.get("retry-after")), (429, "10")),
    "503": (
        {"status": 503, "headers": {"Retry-After": "7"}},
        lambda a: (a.status, a.headers.get("retry-after")),
        (503, "7"),
    ),
    "html 502": ({"html": True, "status": 502}, lambda a: (a.status, a.headers["content-type"]), (502, "text/html")),
    "html 200": ({"html": True}, lambda a: (a.status, a.headers["content-type"]), (200, "text/html")),
    "broken json": ({"damage": "json"}, lambda a: (a.status, isinstance(a.body, str)), (200, True)),
    "spliced": ({"damage": "splice"}, lambda a: (a.status, '"code": "InternalServerError"' in a.body), (200, True)),
    "empty with next": ({"items": "none"}, lambda a: (a.body["value"], "@odata.nextLink" in a.body), ([], True)),
    "cut short": ({"next": "none"}, lambda a: (_upns(a), "@odata.nextLink" in a.body), (["p2", "p3"], False)),
    "half": ({"items": "half"}, lambda a: (_upns(a), "@odata.nextLink" in a.body), (["p2"], True)),
    "twice": ({"items": "twice"}, _upns, ["p2", "p2", "p3", "p3"]),
    "repeated page": ({"items": "repeat"}, _upns, ["p0", "p1"]),
    "foreign": ({"next": "foreign"}, lambda a: a.body["@odata.nextLink"].split("/")[2], "idp.elsewhere.example.com"),
    "null enabled": ({"edit": {"set": {"userPrincipalName": "xx", "mail": None}}}, _upns, ["xx", "xx"]),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("path", ["users?$top=2", "users/delta"])
def test_a_rule_makes_a_page_wrong_and_no_other(graph: Graph, what: str, path: str) -> None:
    people(graph, 6)
    rule, seen, expected = WRONG[what]
    graph.break_with(f"{V1}/users*", page=2, times=1, **rule)
    assert _upns(_page(graph, 1, path)) == ["p0", "p1"]
    assert seen(_page(graph, 2, path)) == expected
    assert graph.fired() == 1
    assert _upns(_page(graph, 3, path)) == ["p4", "p5"]


def test_a_looping_link_leads_back_to_its_own_page(graph: Graph) -> None:
    people(graph, 6)
    graph.break_with(f"{V1}/users", page=2, next="self")
    second = _page(graph, 2, "users?$top=2")
    assert _upns(graph.api(second.body["@odata.nextLink"])) == ["p2", "p3"]


def test_entra_can_fail_and_stall_as_well(graph: Graph) -> None:
    graph.break_with("/entra/*", html=True, status=503, times=1)
    graph.break_with("/entra/*", hang=True, times=1)
    assert graph.token().status == 503
    with pytest.raises(TimeoutError):
        graph.post("/" + graph.authority.split("/", 3)[3] + "/oauth2/v2.0/token", b"", key=None, timeout=0.2)
    assert graph.token().status == 200
