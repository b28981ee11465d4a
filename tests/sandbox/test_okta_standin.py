"""The stand-in of Okta against what is recorded and documented of the real thing."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from support.idps import Okta
from support.waiting import until

from idsync.sandbox.okta.service import TOKEN

from . import shapes
from .client import Answer

Row = dict[str, Any]
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
USERS, GROUPS, LOGS = "/api/v1/users", "/api/v1/groups", "/api/v1/logs"


def next_of(answer: Answer) -> str | None:
    return next((link[1 : link.index(">")] for link in answer.links if 'rel="next"' in link), None)


def walk(okta: Okta, path: str, query: Row | None = None) -> list[Row]:
    """Every record of a listing."""
    answer = okta.api(path, query)
    rows = list(answer.body)
    while following := next_of(answer):
        answer = okta.api(following)
        rows += answer.body
    return rows


def logins(rows: list[Row]) -> list[str]:
    return [row["profile"]["login"].partition("@")[0] for row in rows]


def people(okta: Okta, number: int) -> list[str]:
    """Seed so many people and return their ids."""
    names = [f"p{n}@example.com" for n in range(number)]
    okta.seed(users=[{"login": name} for name in names])
    return [okta.ids[name] for name in names]


# shapes


def test_records_have_the_members_and_types_that_were_recorded(okta: Okta) -> None:
    okta.seed(
        users=[{"login": "ann@example.com"}],
        groups=[{"name": "ai-eng", "members": ["ann@example.com"]}],
        apps=[{"label": "gateway", "users": ["ann@example.com"]}],
    )
    [user] = okta.api(USERS).body
    [group] = okta.api(GROUPS).body
    [member] = okta.api(f"{GROUPS}/{group['id']}/users").body
    [assigned] = okta.api(f"/api/v1/apps/{okta.ids['gateway']}/users").body
    assert shapes.shape(user) == shapes.shape(member) == shapes.shape(shapes.OKTA_USER)
    assert shapes.shape(group) == shapes.shape(shapes.OKTA_GROUP)
    assert shapes.shape(assigned) == shapes.shape(shapes.OKTA_APP_USER)
    assert [len(user["id"]), len(group["id"])] == [20, 20]


def test_a_record_has_what_the_media_type_leaves_of_it(okta: Okta) -> None:
    [ann] = people(okta, 1)
    okta.act("deactivate", user=ann, slow=True)
    omit = {"Content-Type": "application/json; okta-response=omitCredentials,omitTransitioningToStatus"}
    whole, part = okta.api(f"{USERS}/{ann}").body, okta.api(f"{USERS}/{ann}", headers=omit).body
    assert (whole["status"], whole["transitioningToStatus"]) == ("ACTIVE", "DEPROVISIONED")
    assert whole.keys() - part.keys() == {"credentials", "transitioningToStatus"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{USERS}/00unobody", 404, "E0000007"),
        (f"{GROUPS}/00gnobody", 404, "E0000007"),
        (f"{USERS}?filter=status+ne+%22ACTIVE%22", 400, "E0000031"),
        (f"{USERS}?filter=nosuch+eq+%221%22", 400, "E0000031"),
        (f"{USERS}?after=made-up", 400, "E0000001"),
        (f"{LOGS}?limit=1001", 400, "E0000001"),
        (f"{LOGS}?since=2020-01-01T00:00:00Z", 400, "E0000001"),
    ],
)
def test_errors_are_of_oktas_form(okta: Okta, path: str, status: int, code: str) -> None:
    answer = okta.api(path)
    assert (answer.status, answer.body["errorCode"], answer.body["errorLink"]) == (status, code, code)
    assert answer.body.keys() == shapes.OKTA_TOO_MANY.keys()


# listings


def test_links_are_two_headers_and_a_full_last_page_still_has_a_next_one(okta: Okta) -> None:
    ids = people(okta, 4)
    first = okta.api(USERS, {"limit": 2})
    assert ['rel="self"' in first.links[0], 'rel="next"' in first.links[1]] == [True, True]
    second = okta.api(next_of(first) or "")
    third = okta.api(next_of(second) or "")
    assert [row["id"] for row in first.body + second.body] == ids
    assert (third.body, next_of(third)) == ([], None)


def test_a_listing_neither_misses_nor_repeats_while_people_come_and_go(okta: Okta) -> None:
    ids = people(okta, 6)
    okta.seed(groups=[{"name": "ai-eng", "members": ids}])
    path = f"{GROUPS}/{okta.ids['ai-eng']}/users"
    first = okta.api(path, {"limit": 2})
    okta.act("leave", group="ai-eng", user=ids[0])
    okta.act("leave", group="ai-eng", user=ids[3])
    rest = okta.api(next_of(first) or "")
    last = okta.api(next_of(rest) or "")
    assert [row["id"] for row in first.body + rest.body + last.body] == [ids[0], ids[1], ids[2], ids[4], ids[5]]


def test_pages_are_no_larger_than_okta_has_them(okta: Okta) -> None:
    made = okta.seed(many={"users": 1100, "groups": 1, "memberships": 1100, "app": "gateway"})
    sizes = {
        f"{USERS}?limit=999": 200,
        f"{GROUPS}/{made['team-0001']}/users": 1000,
        f"/api/v1/apps/{made['gateway']}/users": 50,
        f"/api/v1/apps/{made['gateway']}/users?limit=501": 500,
    }
    assert {path: len(okta.api(path).body) for path in sizes} == sizes
    assert len({row["id"] for row in walk(okta, USERS)}) == 1100


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "active suspended"),  # deactivated people are left out
        ({"q": "act"}, "active"),
        ({"filter": 'status eq "DEPROVISIONED"'}, "left"),
        (
            {"filter": '(status eq "SUSPENDED" or status eq "ACTIVE") and profile.login eq "active@example.com"'},
            "active",
        ),
        ({"filter": 'lastUpdated gt "@"'}, "suspended left"),
        ({"search": 'status pr and profile.login co "E"'}, "active suspended left"),
        ({"search": 'profile.team eq "blue"'}, "active"),
    ],
)
def test_who_is_listed(okta: Okta, query: Row, found: str) -> None:
    okta.seed(users=[{"login": f"{name}@example.com"} for name in ("suspended", "left")])
    okta.seed(users=[{"login": "active@example.com", "team": "blue"}])
    since = okta.api(f"{USERS}/active@example.com").body["lastUpdated"]
    okta.move_clock(10)
    okta.act("suspend", user="suspended@example.com")
    okta.act("deactivate", user="left@example.com")
    asked = {name: value.replace("@", since) if "gt" in value else value for name, value in query.items()}
    assert set(logins(okta.api(USERS, asked).body)) == set(found.split())


def test_groups_are_found_by_name_and_by_when_their_members_changed(okta: Okta) -> None:
    [ann] = people(okta, 1)
    okta.seed(groups=[{"name": "ai-eng"}, {"name": "ai-ops"}, {"name": "sales", "type": "APP_GROUP"}])
    since = okta.api(GROUPS).body[0]["lastUpdated"]
    okta.move_clock(10)
    okta.act("join", group="ai-ops", user=ann)

    def names(**query: str) -> list[str]:
        return [row["profile"]["name"] for row in okta.api(GROUPS, query).body]

    assert names(q="AI") == ["ai-eng", "ai-ops"]
    assert names(search='profile.name eq "sales"') == ["sales"]
    assert names(filter='type eq "APP_GROUP"') == ["sales"]
    assert names(filter=f'type eq "OKTA_GROUP" and lastMembershipUpdated gt "{since}"') == ["ai-ops"]
    assert names(filter=f'lastUpdated gt "{since}"') == []
    counted = okta.api(GROUPS, {"expand": "stats"}).body
    assert [row["_embedded"]["stats"]["usersCount"] for row in counted] == [0, 1, 0]
    assert okta.api(f"{GROUPS}/{okta.ids['ai-eng']}", {"expand": "stats"}).body["_embedded"]["stats"]["usersCount"] == 0


# what changes, and what the log says of it


@pytest.mark.parametrize(
    ("steps", "status", "events"),
    [
        (["suspend"], "SUSPENDED", "user.lifecycle.suspend"),
        (["suspend", "unsuspend"], "ACTIVE", "user.lifecycle.suspend user.lifecycle.unsuspend"),
        (["lock"], "LOCKED_OUT", "user.account.lock"),
        (["lock", "unlock"], "ACTIVE", "user.account.lock user.account.unlock"),
        (["deactivate"], "DEPROVISIONED", "application.user_membership.remove user.lifecycle.deactivate"),
        (
            ["deactivate", "activate"],
            "ACTIVE",
            "application.user_membership.remove user.lifecycle.deactivate user.lifecycle.reactivate",
        ),
        (
            ["delete"],
            None,
            "application.user_membership.remove user.lifecycle.deactivate user.lifecycle.delete.initiated"
            " user.lifecycle.delete.completed",
        ),
    ],
)
def test_acts_change_the_status_and_leave_events(okta: Okta, steps: list[str], status: str | None, events: str) -> None:
    [ann] = people(okta, 1)
    okta.seed(apps=[{"label": "gateway", "users": [ann]}])
    for step in steps:
        okta.act(step, user=ann)
    answer = okta.api(f"{USERS}/{ann}")
    assert answer.body.get("status") == status
    rows = okta.api(LOGS).body
    assert " ".join(row["eventType"] for row in rows) == events
    assert all(any(t["type"] == "User" and t["id"] == ann for t in row["target"]) for row in rows)


@pytest.mark.parametrize(
    ("act", "events", "targets"),
    [
        (
            {"do": "join", "group": "other", "user": "p1@example.com"},
            ["group.user_membership.add"],
            ["User", "UserGroup"],
        ),
        (
            {"do": "leave", "group": "ai-eng", "user": "p0@example.com"},
            ["group.user_membership.remove", "application.user_membership.remove"],
            ["User", "UserGroup"],
        ),
        ({"do": "delete_group", "group": "other"}, ["group.lifecycle.delete"], ["UserGroup"]),
        (
            {"do": "recreate_group", "group": "other"},
            ["group.lifecycle.delete", "group.lifecycle.create"],
            ["UserGroup"],
        ),
        (
            {"do": "unassign", "app": "gateway", "group": "ai-eng"},
            ["group.application_assignment.remove", "application.user_membership.remove"],
            ["UserGroup", "AppInstance"],
        ),
        ({"do": "deactivate_app", "app": "gateway"}, ["application.lifecycle.deactivate"], ["AppInstance"]),
        (
            {"do": "change_profile", "user": "p0@example.com", "email": "new@example.com"},
            ["user.account.update_profile"],
            ["User"],
        ),
        (
            {"do": "unassign", "app": "gateway", "user": "p0@example.com", "how": "revoke"},
            ["application.user_membership.revoke"],
            ["AppUser", "AppInstance", "User"],
        ),
        (
            {"do": "update_assignment", "app": "gateway", "group": "ai-eng"},
            ["group.application_assignment.update"],
            ["UserGroup", "AppInstance"],
        ),
        ({"do": "import_users", "deactivate": ["p0@example.com", "p1@example.com"]}, ["system.import.complete"], []),
        ({"do": "log_out", "user": "p0@example.com"}, ["user.session.end"], ["User"]),
        ({"do": "log", "event": "new.kind.of.event", "group": "other"}, ["new.kind.of.event"], ["UserGroup"]),
    ],
)
def test_groups_and_apps_leave_events_with_their_targets(
    okta: Okta, act: Row, events: list[str], targets: list[str]
) -> None:
    people(okta, 2)
    okta.seed(groups=[{"name": "ai-eng", "members": ["p0@example.com"]}, {"name": "other"}])
    okta.seed(apps=[{"label": "gateway", "groups": ["ai-eng"]}])
    okta.act(**act)
    rows = okta.api(LOGS).body
    assert [row["eventType"] for row in rows] == events
    assert [target["type"] for target in rows[0]["target"]] == targets
    assert rows[0]["outcome"]["result"] == "SUCCESS"


def test_deletion_takes_two_calls_and_leaves_nothing_in_any_list(okta: Okta) -> None:
    [ann, bob] = people(okta, 2)
    okta.seed(groups=[{"name": "ai-eng", "members": [ann, bob]}])
    path = f"{GROUPS}/{okta.ids['ai-eng']}/users"
    assert okta.api(f"{USERS}/{ann}", method="DELETE").status == 204
    assert okta.api(f"{USERS}/{ann}").body["status"] == "DEPROVISIONED"
    assert len(okta.api(path).body) == 2  # a deactivated member may stay
    assert okta.api(f"{USERS}/{ann}", method="DELETE").status == 204
    gone = okta.api(f"{USERS}/{ann}")
    assert (gone.status, gone.body["errorSummary"]) == (404, f"Not found: Resource not found: {ann} (User)")
    assert okta.api(USERS, {"filter": 'status eq "DEPROVISIONED"'}).body == []
    assert [row["id"] for row in okta.api(path).body] == [bob]
    again = okta.api(f"{USERS}?activate=true", method="POST", body={"profile": {"login": "p0@example.com"}})
    assert again.body["id"] != ann


def test_a_group_made_again_has_another_id_and_the_same_members(okta: Okta) -> None:
    ids = people(okta, 3)
    okta.seed(groups=[{"name": "ai-eng", "members": ids}])
    made = okta.act("recreate_group", group="ai-eng")["id"]
    assert made != okta.ids["ai-eng"]
    assert okta.api(f"{GROUPS}/{okta.ids['ai-eng']}").status == 404
    assert [row["id"] for row in okta.api(f"{GROUPS}/{made}/users").body] == ids


# the System Log


def test_polling_always_has_a_next_link_and_shows_late_events_in_the_order_they_came(okta: Okta) -> None:
    [ann] = people(okta, 1)
    first = okta.api(LOGS, {"limit": 10, "sortOrder": "ASCENDING"})
    assert first.body == []
    okta.act("suspend", user=ann)
    okta.act("log", event="user.lifecycle.unsuspend", user=ann, age=600)
    second = okta.api(next_of(first) or "")
    assert [row["eventType"] for row in second.body] == ["user.lifecycle.suspend", "user.lifecycle.unsuspend"]
    assert second.body[0]["published"] > second.body[1]["published"]
    third = okta.api(next_of(second) or "")
    assert (third.body, next_of(third) is not None) == ([], True)
    okta.act("repeat_event", uuid=second.body[0]["uuid"])
    assert okta.api(next_of(third) or "").body[0]["uuid"] == second.body[0]["uuid"]


def test_a_bounded_query_is_sorted_by_publication_and_ends(okta: Okta) -> None:
    [ann] = people(okta, 1)
    okta.act("suspend", user=ann)
    okta.act("log", event="late", user=ann, age=600)
    rows = walk(okta, LOGS, {"until": "2999-01-01T00:00:00Z", "limit": 1})
    assert [row["eventType"] for row in rows] == ["late", "user.lifecycle.suspend"]


def test_the_log_filters_by_type_and_target(okta: Okta) -> None:
    [ann, bob] = people(okta, 2)
    for who in (ann, bob):
        okta.act("suspend", user=who)
        okta.act("unsuspend", user=who)
    kinds = {"filter": 'eventType eq "user.lifecycle.suspend" or eventType eq "user.lifecycle.deactivate"'}
    assert [row["target"][0]["id"] for row in okta.api(LOGS, kinds).body] == [ann, bob]
    assert len(okta.api(LOGS, {"filter": f'target.id eq "{bob}"'}).body) == 2


def test_since_and_after_exclude_each_other(okta: Okta) -> None:
    following = next_of(okta.api(LOGS)) or ""
    assert okta.api(following + "&since=2026-11-01T00:00:00Z").status == 400


# who may ask


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [("SSWS wrong", 401, "E0000011"), ("", 403, "E0000005"), (f"SSWS{TOKEN}", 200, None)],
)
def test_a_wrong_api_token_is_refused(okta: Okta, authorization: str, status: int, code: str | None) -> None:
    assert _error(okta.api(USERS, headers={"Authorization": authorization})) == (status, code)


def test_an_api_token_dies_with_its_owner_and_when_it_is_revoked(okta: Okta) -> None:
    people(okta, 2)
    okta.options(token_owner="p0@example.com")
    assert okta.api(USERS).status == 200
    okta.act("deactivate", user="p0@example.com")
    assert okta.api(USERS).status == 401
    okta.options(token_owner="p1@example.com")
    assert okta.api(USERS).status == 200
    okta.act("revoke_api_tokens")
    assert okta.api(USERS).status == 401


class App:
    """A service app with a key of its own."""

    def __init__(self, okta: Okta, algorithm: str = "RS256", dpop: bool = False) -> None:
        self.okta, self.algorithm = okta, algorithm
        self.key = _new_key(algorithm)
        okta.options(
            clients=[
                {
                    "client_id": "0oaservice",
                    "keys": [_public(self.key, "k1")],
                    "scopes": ["okta.users.read", "okta.groups.read"],
                    "dpop": dpop,
                }
            ]
        )

    def assertion(self, key: Any = None, **claims: Any) -> str:
        usual = {
            "iss": "0oaservice",
            "sub": "0oaservice",
            "aud": f"{self.okta.org_url}/oauth2/v1/token",
            "exp": int(time.time()) + 300,
            "iat": int(time.time()),
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(usual | claims, key or self.key, self.algorithm, headers={"kid": "k1"})

    def token(self, assertion: str | None = None, scope: str = "okta.users.read", **headers: str) -> Answer:
        form = {
            "grant_type": "client_credentials",
            "scope": scope,
            "client_assertion_type": ASSERTION,
            "client_assertion": assertion or self.assertion(),
        }
        return self.okta.post("/okta/oauth2/v1/token", urlencode(form).encode(), key=None, headers=headers)


def _new_key(algorithm: str) -> Any:
    if algorithm.startswith("RS"):
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())


def _public(key: Any, kid: str | None = None) -> Row:
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    jwk: Row = kind.to_jwk(key.public_key(), as_dict=True)
    return jwk | ({"kid": kid} if kid else {})


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "ES256", "ES384"])
def test_a_service_app_gets_a_token_for_its_scopes(okta: Okta, algorithm: str) -> None:
    app = App(okta, algorithm)
    answer = app.token()
    assert (answer.status, answer.body["token_type"], answer.body["expires_in"]) == (200, "Bearer", 3600)
    bearer = {"Authorization": f"Bearer {answer.body['access_token']}"}
    assert okta.api(USERS, headers=bearer).status == 200
    refused = okta.api(LOGS, headers=bearer)
    assert (refused.status, refused.body["errorCode"]) == (403, "E0000006")
    assert "insufficient_scope" in refused.headers["www-authenticate"]
    okta.move_clock(3601)
    assert okta.api(USERS, headers=bearer).status == 401


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"aud": "https://other.okta.com/oauth2/v1/token"}, "audience"),
        ({"iss": "0oaother"}, "client_id"),
        ({"exp": 1}, "expired"),
        ({"exp": 4102444800}, "too far"),
        ({"exp": None}, "expiration"),
    ],
)
def test_an_assertion_that_claims_something_else_is_refused(okta: Okta, claims: Row, said: str) -> None:
    app = App(okta)
    answer = app.token(app.assertion(**claims))
    assert (answer.status, answer.body["error"]) == (401, "invalid_client")
    assert said in answer.body["error_description"]


def test_an_assertion_of_another_key_or_used_twice_is_refused(okta: Okta) -> None:
    app = App(okta, "ES256")
    assert app.token(app.assertion(_new_key("ES256"))).status == 401
    once = app.assertion()
    assert [app.token(once).status, app.token(once).status] == [200, 401]
    assert app.token(scope="okta.apps.read").body["error"] == "invalid_scope"
    assert once not in json.dumps(okta.asked())


def _proof(key: Any, method: str, url: str, **claims: Any) -> str:
    usual = {"htm": method, "htu": url, "iat": int(time.time()), "jti": uuid.uuid4().hex}
    headers = {"typ": "dpop+jwt", "jwk": _public(key)}
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    return jwt.encode(usual | claims, key, algorithm, headers=headers)


def test_dpop_demands_a_nonce_and_binds_the_token_to_its_key(okta: Okta) -> None:
    app, key = App(okta, dpop=True), _new_key("ES256")
    url = f"{okta.org_url}/oauth2/v1/token"
    assert app.token().body["error"] == "invalid_dpop_proof"
    asked = app.token(DPoP=_proof(key, "POST", url))
    assert (asked.status, asked.body["error"]) == (400, "use_dpop_nonce")
    granted = app.token(DPoP=_proof(key, "POST", url, nonce=asked.headers["dpop-nonce"]))
    assert (granted.status, granted.body["token_type"]) == (200, "DPoP")
    token = granted.body["access_token"]
    ath = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
    here = f"{okta.org_url}{USERS}"

    def read(scheme: str, proof: str) -> int:
        return okta.api(USERS, {"limit": 1}, headers={"Authorization": f"{scheme} {token}", "DPoP": proof}).status

    assert read("DPoP", _proof(key, "GET", here, ath=ath)) == 200
    refused = [
        read("Bearer", _proof(key, "GET", here, ath=ath)),
        read("DPoP", _proof(key, "POST", here, ath=ath)),
        read("DPoP", _proof(key, "GET", f"{here}?limit=1", ath=ath)),
        read("DPoP", _proof(key, "GET", here, ath="other")),
        read("DPoP", _proof(_new_key("ES256"), "GET", here, ath=ath)),
    ]
    assert refused == [401] * 5


# how often, and how much


def test_a_bucket_runs_empty_and_is_full_again_after_its_window(okta: Okta) -> None:
    okta.options(limits={"users": 2})
    told = [okta.api(USERS) for _ in range(3)]
    assert [answer.headers["x-rate-limit-remaining"] for answer in told] == ["1", "0", "0"]
    over = told[-1]
    assert over.status == 429
    assert {**over.body, "errorId": ""} == {**shapes.OKTA_TOO_MANY, "errorId": ""}
    assert "retry-after" not in over.headers
    assert okta.api(GROUPS).status == 200  # another bucket
    okta.move_clock(60)
    assert okta.api(USERS).status == 200
    kinds = [row["eventType"] for row in okta.api(LOGS).body]
    assert kinds == ["system.org.rate_limit.warning", "system.org.rate_limit.violation"]


def test_the_limit_on_concurrent_requests_names_no_time(okta: Okta) -> None:
    okta.break_with(f"{USERS}*", throttle="concurrency", times=1)
    over = okta.api(USERS)
    assert (over.status, over.body["errorCode"]) == (429, "E0000047")
    assert (over.headers["x-rate-limit-limit"], over.headers["x-rate-limit-remaining"]) == ("0", "0")


def test_more_requests_at_the_same_time_than_allowed_are_refused(okta: Okta) -> None:
    okta.options(concurrency=1)
    okta.break_with(GROUPS, hang=True)
    with ThreadPoolExecutor() as pool:
        held = pool.submit(okta.api, GROUPS, timeout=1)
        until(lambda: okta.paths(), "the call that is not answered")
        assert okta.api(USERS).status == 429
        with pytest.raises(TimeoutError):
            held.result()
    until(lambda: okta.api(USERS).status == 200, "the other call to end")


@pytest.mark.parametrize("status", [403, 404])
def test_a_narrower_admin_role_hides_people_and_groups_without_a_word(okta: Okta, status: int) -> None:
    [ann, bob] = people(okta, 2)
    okta.seed(groups=[{"name": "seen", "members": [ann]}, {"name": "unseen", "members": [bob]}])
    okta.seed(apps=[{"label": "gateway", "users": [ann, bob]}])
    okta.options(narrowed_to=["seen"], narrowed_status=status)
    assert [row["id"] for row in walk(okta, USERS)] == [ann]
    assert [row["id"] for row in walk(okta, f"/api/v1/apps/{okta.ids['gateway']}/users")] == [ann]
    assert [row["profile"]["name"] for row in walk(okta, GROUPS)] == ["seen"]
    assert [okta.api(f"{GROUPS}/{okta.ids['unseen']}/users").status, okta.api(f"{USERS}/{bob}").status] == [status] * 2
    okta.options(narrowed=False)
    assert len(walk(okta, USERS)) == 2


# what goes wrong on purpose; there are 6 people, 2 on a page


def _page(okta: Okta, number: int) -> Answer:
    answer = okta.api(USERS, {"limit": 2})
    for _ in range(number - 1):
        answer = okta.api(next_of(answer) or "")
    return answer


def _ids(answer: Answer) -> list[str]:
    return [row["profile"]["login"][:2] for row in answer.body]


def _error(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.body["errorCode"] if isinstance(answer.body, dict) else None


WRONG: dict[str, tuple[Row, Callable[[Answer], object], object]] = {
    "500": ({"status": 500}, _error, (500, "E0000009")),
    "401": ({"status": 401}, _error, (401, "E0000011")),
    "403": ({"status": 403}, _error, (403, "E0000006")),
    "503": ({"status": 503}, lambda a: a.status, 503),
    "429": ({"throttle": "rate"}, lambda a: (a.status, a.headers["x-rate-limit-remaining"]), (429, "0")),
    "html 502": ({"html": True, "status": 502}, lambda a: (a.status, a.body[:14]), (502, "<!DOCTYPE html")),
    "html 200": ({"html": True}, lambda a: (a.status, a.headers["content-type"]), (200, "text/html")),
    "broken json": ({"damage": "json"}, lambda a: (a.status, isinstance(a.body, str)), (200, True)),
    "spliced": ({"damage": "splice"}, lambda a: (a.status, '"errorCode": "E0000009"' in a.body), (200, True)),
    "empty with next": ({"items": "none"}, lambda a: (a.body, next_of(a) is None), ([], False)),
    "empty and the end": ({"items": "none", "next": "none"}, lambda a: (a.body, next_of(a)), ([], None)),
    "cut short": ({"next": "none"}, lambda a: (_ids(a), next_of(a)), (["p2", "p3"], None)),
    "half": ({"items": "half"}, lambda a: (_ids(a), next_of(a) is None), (["p2"], False)),
    "twice": ({"items": "twice"}, _ids, ["p2", "p2", "p3", "p3"]),
    "repeated page": ({"items": "repeat"}, _ids, ["p0", "p1"]),
    "loop": ({"next": "self"}, lambda a: next_of(a) == a.links[0][1 : a.links[0].index(">")], True),
    "back": ({"next": "first"}, lambda a: "after" in (next_of(a) or ""), False),
    "foreign": ({"next": "foreign"}, lambda a: (next_of(a) or "").split("/")[2], "idp.elsewhere.example.com"),
    "new status": ({"edit": {"set": {"status": "PARKED"}}}, lambda a: [r["status"] for r in a.body], ["PARKED"] * 2),
    "odd types": ({"edit": {"set": {"profile": {"email": 7}}}}, lambda a: a.body[0]["profile"]["email"], 7),
    "no id": ({"edit": {"unset": ["id"]}}, lambda a: "id" in a.body[0], False),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_a_rule_makes_a_page_wrong_and_no_other(okta: Okta, what: str, times: int | None) -> None:
    people(okta, 6)
    rule, seen, expected = WRONG[what]
    okta.break_with(USERS, page=2, times=times, **rule)
    assert _ids(_page(okta, 1)) == ["p0", "p1"]
    assert seen(_page(okta, 2)) == expected
    assert okta.fired() == 1
    assert (seen(_page(okta, 2)) == expected) is (times is None)
    okta.mend()
    assert logins(walk(okta, USERS, {"limit": 2})) == ["p0", "p1", "p2", "p3", "p4", "p5"]


def test_a_narrowed_listing_leaves_out_the_same_people_each_time(okta: Okta) -> None:
    okta.seed(many={"users": 300})
    okta.break_with(USERS, keep=0.8)
    first, second = logins(walk(okta, USERS)), logins(walk(okta, USERS))
    assert first == second
    assert 200 < len(first) < 280


def test_somebody_is_missing_in_every_listing_and_there_by_id(okta: Okta) -> None:
    ann, bob = people(okta, 2)
    okta.seed(groups=[{"name": "ai-eng", "members": [ann, bob]}])
    okta.break_with("/api/v1/*", without=[ann])
    assert [row["id"] for row in walk(okta, USERS)] == [bob]
    assert [row["id"] for row in walk(okta, f"{GROUPS}/{okta.ids['ai-eng']}/users")] == [bob]
    assert okta.api(f"{USERS}/{ann}").body["id"] == ann


def test_times_of_change_may_be_wrong(okta: Okta) -> None:
    [ann] = people(okta, 1)
    since = okta.api(f"{USERS}/{ann}").body["lastUpdated"]
    okta.move_clock(10)
    okta.act("suspend", user=ann)
    okta.act("touch", user=ann, age=86400)
    assert okta.api(USERS, {"filter": f'lastUpdated gt "{since}"'}).body == []


def test_pages_drift_while_they_are_read(okta: Okta) -> None:
    ids = people(okta, 4)
    okta.break_with(USERS, page=1, times=1, then={"do": "delete", "user": ids[3]})
    assert logins(walk(okta, USERS, {"limit": 2})) == ["p0", "p1", "p2"]


@pytest.mark.parametrize("rule", [{"truncate": True}, {"drop": "before"}, {"drop": "after"}])
def test_a_connection_dies(okta: Okta, rule: Row) -> None:
    people(okta, 6)
    okta.break_with(USERS, **rule)
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected, ConnectionResetError)):
        okta.api(USERS)


def test_a_stalled_answer_never_comes_and_a_slow_one_comes_whole(okta: Okta) -> None:
    people(okta, 6)
    okta.break_with(USERS, hang=True, times=1)
    okta.break_with(USERS, drip=0.01)
    with pytest.raises(TimeoutError):
        okta.api(USERS, timeout=0.2)
    assert len(okta.api(USERS).body) == 6
    assert [row["fault"] for row in okta.asked()] == ["hang", "drip 0.01"]


@pytest.mark.parametrize(
    "rule",
    [{}, {"items": "some"}, {"damage": "xml"}, {"throttle": "slow"}, {"lie": True}, {"status": 500, "drop": "before"}],
)
def test_a_rule_that_is_none_is_refused(okta: Okta, rule: Row) -> None:
    assert okta.post("/_sandbox/okta/faults", {"path": "/api/v1/*", **rule}).status == 400


@pytest.mark.parametrize(
    ("hook", "body", "said"),
    [
        ("act", {"do": "suspend", "login": "ann"}, "suspend does not take 'login'; it takes user"),
        ("act", {"do": "suspend"}, "suspend needs user; it takes user"),
        ("act", {"acts": {"do": "suspend"}}, "acts is a list of objects: [{...}, {...}]"),
        ("act", {"do": "suspend", "user": "nobody"}, "no user nobody"),
        ("seed", {"people": []}, "a seed does not take 'people'; it takes users, groups, apps, many"),
        ("seed", {"users": [{"user_id": "ann"}]}, "a user needs login; it takes login, status, any other attribute"),
        ("seed", {"groups": [{"members": []}]}, "a group needs name; it takes name, members, id, type, description"),
        ("seed", {"apps": [{"name": "a"}]}, "an app does not take 'name'; it takes label, id, users, groups"),
        ("options", {"limit": 3}, "unknown options: limit"),
        ("options", {"limits": 3}, "limits cannot be 3"),
    ],
)
def test_a_hook_says_what_is_wrong(okta: Okta, hook: str, body: Row, said: str) -> None:
    answer = okta.post(f"/_sandbox/okta/{hook}", body)
    assert (answer.status, answer.body) == (400, {"error": said})


def test_an_act_that_is_none_is_answered_with_those_there_are(okta: Okta) -> None:
    answer = okta.post("/_sandbox/okta/act", {"do": "vanish"})
    assert answer.status == 400
    assert answer.body["error"].startswith(
        'there is no act \'vanish\'; write it like {"do": "suspend", ...}: create_user'
    )


def test_its_clock_is_a_day_off(okta: Okta) -> None:
    [ann] = people(okta, 1)
    today = okta.api(USERS).headers["date"]
    okta.options(clock_skew=86400)
    okta.act("suspend", user=ann)
    tomorrow = okta.api(f"{USERS}/{ann}")
    okta.options(clock_skew=0)
    okta.break_with(USERS, date=-86400, times=1)
    assert len({today, tomorrow.headers["date"], okta.api(USERS).headers["date"]}) == 3
    assert tomorrow.body["lastUpdated"][:10] > tomorrow.body["created"][:10]


def test_a_gateway_beside_it_answers_at_the_root(okta: Okta) -> None:
    assert okta.get("/health/liveliness", key=None).status == 200
    assert okta.log() == [] or all("/api/v1" not in row["path"] for row in okta.log())
