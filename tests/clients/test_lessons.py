"""What implementers of SCIM servers learnt the hard way: the thread, the requests, and what has to be true after.

The people `{{u}}`, `{{v}}` and `{{w}}` are there for every lesson; `{{g}}` is a group that holds the first two.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.endpoint import ENTERPRISE, ERROR, GROUP, USER, Client

from .people import name
from .playing import Step, delete, get, patch, post, put

MEMBERS = "$.members[*].value"


def members(*ids: str) -> dict[str, Any]:
    return {MEMBERS: {"$set": list(ids)}}


def op(kind: str, path: str | None = None, value: Any = None) -> dict[str, Any]:
    return {"op": kind, **({"path": path} if path else {}), **({} if value is None else {"value": value})}


def person(**more: Any) -> dict[str, Any]:
    return {"schemas": [USER], "userName": "{{fresh}}", **more}


SAME = {"schemas": [USER], "userName": "{{user}}"}
NOBODY = {"$.members": {"$absent": True}}
ROLE = {"id": "18d14569", "value": "Admin", "displayName": "Admin"}

LESSONS: dict[str, list[Step]] = {
    "AzureAD/SCIMReferenceCode#21: active is text, in POST too": [
        post("/Users", person(active="True"), {"$.active": True}),
        patch("/Users/{{u}}", op("Replace", "active", "False"), shown={"$.active": False}),
        patch("/Users/{{u}}", op("Replace", "active", "True"), shown={"$.active": True}),
    ],
    "AzureAD/SCIMReferenceCode#20: displayName in members and a name in the operation": [
        patch(
            "/Groups/{{g}}",
            {"op": "Add", "name": "addMember", "path": "members", "value": [{"displayName": "W", "value": "{{w}}"}]},
            shown=members("{{u}}", "{{v}}", "{{w}}"),
        ),
    ],
    "MicrosoftDocs/azure-docs#30826, SCIM-SDK#167: Remove with a value list means these": [
        patch("/Groups/{{g}}", op("Remove", "members", [{"value": "{{u}}"}]), shown=members("{{v}}")),
    ],
    "MicrosoftDocs/azure-docs#50772, entra-docs#215: roles differ between POST and PATCH": [
        post(
            "/Users",
            person(roles=[{"value": json.dumps(ROLE), "primary": "False", "type": "WindowsAzureActiveDirectoryRole"}]),
            {"$.roles[0].value": "Admin", "$.roles[0].primary": False},
        ),
        patch("/Users/{{u}}", op("Add", "roles", [{"value": "Admin", "id": "1"}]), shown={"$.roles[0].value": "Admin"}),
    ],
    "thomaspoignant/scim-patch#872, scimmyjs/scimmy#51 and #86: text is never stored as active": [
        patch("/Users/{{u}}", op("Replace", "active", "false")),
        get("/Users/{{u}}", {"$.active": {"$type": "boolean"}}),
        get("/Users/{{u}}", {"$.active": False}),
    ],
    "scimmyjs/scimmy#17, SCIM-SDK#419: members with display and without type are users": [
        patch("/Groups/{{g}}", op("add", "members", [{"value": "{{w}}", "display": "W"}])),
        get("/Groups/{{g}}", {"$.members[*].type": {"$set": ["User", "User", "User"]}}),
        get("/Users/{{w}}", {"$.groups[0].value": "{{g}}"}),
    ],
    "scim-for-keycloak#26 and #87: dotted keys, and elements that are not there yet": [
        patch(
            "/Users/{{u}}", op("add", None, {"name.givenName": "G", 'emails[type eq "work"].value': "g@example.com"})
        ),
        patch("/Users/{{u}}", op("Add", 'phoneNumbers[type eq "fax"].value', "1")),
        get("/Users/{{u}}", {"$.name.givenName": "G", "$.emails[0]": {"type": "work", "value": "g@example.com"}}),
        get("/Users/{{u}}", {"$.phoneNumbers[0]": {"type": "fax", "value": "1"}}),
    ],
    "SCIM-SDK#757: members [] is Okta's push of an empty group": [
        patch("/Groups/{{g}}", op("replace", "members", []), shown=NOBODY),
    ],
    "fleetdm/fleet#50724: a read that follows a write sees it": [
        patch("/Groups/{{g}}", op("add", "members", [{"value": "{{w}}"}])),
        get("/Groups/{{g}}?excludedAttributes=displayName", members("{{u}}", "{{v}}", "{{w}}")),
        get("/Groups?filter=displayName+eq+%22{{group|q}}%22", {"$.Resources[0].members[*].value": {"$len": 3}}),
        get("/Users?filter=groups.value+eq+%22{{g}}%22", {"$.totalResults": 3}),
        patch("/Groups/{{g}}", op("remove", 'members[value eq "{{w}}"]')),
        get("/Users?filter=groups.value+eq+%22{{g}}%22", {"$.totalResults": 2}),
        get("/Users/{{w}}", {"$.groups": {"$absent": True}}),
    ],
    "fleetdm/fleet#52600: an unknown member does not reject a push": [
        put(
            "/Groups/{{g}}",
            {"displayName": "{{group}}", "members": [{"value": "nobody"}, {"value": "{{w}}"}]},
            members("{{w}}"),
        ),
        post("/Groups", {"displayName": "{{fresh}}", "members": ["nobody", "{{w}}"]}, members("{{w}}")),
    ],
    "goauthentik/authentik#24173 and #25686: a filtered removal removes": [
        patch("/Groups/{{g}}", op("remove", 'members[value eq "{{u}}"]')),
        get("/Groups/{{g}}", members("{{v}}")),
        patch("/Groups/{{g}}", op("remove", f'{GROUP}:Members[ Value EQ "{{{{v}}}}" ]')),
        get("/Groups/{{g}}", NOBODY),
    ],
    "goauthentik/authentik#23211: id eq and members eq": [
        get("/Groups?filter=id+eq+%22{{g}}%22+and+members+eq+%22{{u}}%22", {"$.totalResults": 1}),
        get("/Groups?filter=id+eq+%22{{g}}%22+and+members%5Bvalue+eq+%22{{w}}%22%5D", {"$.totalResults": 0}),
    ],
    "goauthentik/authentik#23950: the id in a PATCH without a path": [
        patch("/Groups/{{g}}", op("replace", None, {"id": "{{g}}", "displayName": "{{fresh}}"})),
        get("/Groups/{{g}}", {"$.displayName": "{{fresh}}", **members("{{u}}", "{{v}}")}),
    ],
    "goauthentik/authentik#25024, litellm#14057, bitwarden/server#2919: members of POST and PUT count": [
        post("/Groups", {"displayName": "{{fresh}}", "members": [{"value": "{{u}}"}]}, members("{{u}}")),
        put("/Groups/{{g}}", {"displayName": "{{group}}", "members": [{"value": "{{w}}"}]}, members("{{w}}")),
        put("/Groups/{{g}}", {"displayName": "{{group}}"}, NOBODY),
    ],
    "BerriAI/litellm#11555, #14226 and #34162: an add adds, on both sides": [
        patch("/Groups/{{g}}", op("Add", "members", [{"$ref": None, "value": "{{w}}"}])),
        get("/Groups/{{g}}", members("{{u}}", "{{v}}", "{{w}}")),
        get("/Users/{{w}}", {"$.groups[*].value": {"$set": ["{{g}}"]}}),
    ],
    "msaad00/agent-bom#3533 and #3540: a filter that matches nobody clears nobody; errors have an envelope": [
        patch("/Groups/{{g}}", op("remove", 'members[value eq "{{w}}"]'), shown=members("{{u}}", "{{v}}")),
        patch(
            "/Groups/{{g}}", op("remove", "members[value"), status=400, shown={"$.schemas[0]": ERROR, "$.status": "400"}
        ),
        get("/Groups/{{g}}", members("{{u}}", "{{v}}")),
    ],
    "pydantic/logfire#2355: the whole PATCH is judged before any of it is applied": [
        patch(
            "/Groups/{{g}}",
            op("remove", 'members[value eq "{{u}}"]'),
            op("replace", "displayName", "{{fresh}}"),
            op("replace", "description", "x"),
            status=400,
            shown={"$.detail": {"$nonempty": True}},
        ),
        get("/Groups/{{g}}", {"$.displayName": "{{group}}", "$.meta.version": 'W/"1"', **members("{{u}}", "{{v}}")}),
    ],
    "OneUptime/oneuptime#3852, medplum#5679: a departure by PATCH is one": [
        patch("/Users/{{u}}", op("replace", None, {"active": False})),
        get("/Users?filter=userName+eq+%22{{user|q}}%22", {"$.Resources[0].active": False}),
    ],
    "PostHog/posthog#42603: who returns has their groups; an update leaves id and externalId alone": [
        patch("/Users/{{u}}", op("Replace", "active", "False")),
        get("/Groups/{{g}}", members("{{u}}", "{{v}}")),
        patch("/Users/{{u}}", op("Replace", "active", "True"), op("Replace", "displayName", "D")),
        get("/Users/{{u}}", {"$.groups[0].value": "{{g}}", "$.id": "{{u}}", "$.externalId": "{{external}}"}),
    ],
    "getsentry/sentry#50917 and #90208: 409 for who exists; who was removed may come again": [
        post("/Users", SAME, {"$.scimType": "uniqueness"}, 409),
        patch("/Groups/{{g}}", op("remove", 'members[value eq "{{u}}"]')),
        patch("/Groups/{{g}}", op("add", "members", [{"value": "{{u}}"}]), shown=members("{{u}}", "{{v}}")),
        delete("/Users/{{u}}"),
        post("/Users", SAME, {"$.groups": {"$absent": True}}),
    ],
    "getsentry/sentry-docs#16258: PATCH is more than active": [
        patch("/Users/{{u}}", op("Replace", "displayName", "D"), op("Replace", f"{ENTERPRISE}:division", "X")),
        get("/Users/{{u}}", {"$.displayName": "D", f"$['{ENTERPRISE}'].division": "X", "$.active": True}),
    ],
    "kobotoolbox/kpi#7076, growthbook#1680, sourcegraph#49325: a record outlives its departure": [
        patch("/Users/{{u}}", op("replace", "active", False)),
        get("/Users/{{u}}", {"$.active": False, "$.userName": "{{user}}"}),
        get("/Users?filter=active+eq+false+and+id+eq+%22{{u}}%22", {"$.totalResults": 1}),
    ],
    "growthbook#5457, OctopusDeploy/Issues#9940: no path, and attributes that are not there": [
        patch("/Users/{{w}}", op("replace", None, {"nickName": "N", "name": {"givenName": "G"}})),
        patch("/Users/{{w}}", op("replace", "title", "T"), op("replace", "name.familyName", "F")),
        patch("/Users/{{w}}", op("replace", "addresses", [{"type": "work", "country": "NO"}])),
        get("/Users/{{w}}", {"$.nickName": "N", "$.name": {"givenName": "G", "familyName": "F"}, "$.title": "T"}),
        get("/Users/{{w}}", {"$.addresses[0].country": "NO"}),
    ],
    "zulip/zulip#39773: a core attribute behind its URN": [
        patch("/Users/{{u}}", op("Add", f"{USER}:name.givenName", "G"), op("Add", f"{USER}:title", "T")),
        get("/Users/{{u}}", {"$.name.givenName": "G", "$.title": "T"}),
    ],
    "directory-scimple#1244, ssoready#159 and #167: a manager as text, Add in capitals, a long URN": [
        post("/Users", person(**{ENTERPRISE: {"manager": "{{u}}"}}), {f"$['{ENTERPRISE}'].manager.value": "{{u}}"}),
        patch("/Users/{{v}}", op("Add", f"{ENTERPRISE}:manager", "{{u}}")),
        get("/Users/{{v}}", {f"$['{ENTERPRISE}'].manager.value": "{{u}}", "$.schemas": [USER, ENTERPRISE]}),
    ],
    "buildbuddy-io/buildbuddy#10578: replaced roles are gone": [
        patch("/Users/{{u}}", op("Add", "roles", json.dumps([{"value": "old"}]))),
        patch("/Users/{{u}}", op("Replace", "roles", json.dumps([{"value": "new"}]))),
        get("/Users/{{u}}", {"$.roles[*].value": {"$set": ["new"]}}),
    ],
    "FusionAuth#3311 and #1791: enabled again": [
        patch("/Users/{{u}}", op("Replace", "active", "False")),
        patch("/Users/{{u}}", op("Add", "active", "True"), shown={"$.active": True}),
    ],
    "Infisical/infisical#6552: discovery, and a group whose members have no display": [
        get("/ServiceProviderConfig", {"$.patch.supported": True, "$.filter.supported": True}),
        post("/Groups", {"schemas": [GROUP], "displayName": "{{fresh}}", "members": [{"value": "{{u}}"}]}),
    ],
    "vouch-sh/vouch#1415: a PUT without active says nothing about it": [
        put("/Users/{{u}}", SAME, {"$.active": True}),
        patch("/Users/{{u}}", op("replace", "active", False)),
        put("/Users/{{u}}", SAME, {"$.active": False}),
    ],
    "croffasia/itsaplan#250: a create that is repeated is a conflict, not a wipe": [
        post("/Users", {**SAME, "title": "wiped"}, {"$.scimType": "uniqueness"}, 409),
        get("/Users/{{u}}", {"$.title": "kept", "$.externalId": "{{external}}", "$.meta.version": 'W/"1"'}),
        post("/Groups", {"displayName": "{{group}}"}, {"$.scimType": "uniqueness"}, 409),
        get("/Groups/{{g}}", members("{{u}}", "{{v}}")),
    ],
    "bytebase#19073, wso2/product-is#8589: an add of who is there already is nothing new": [
        patch("/Groups/{{g}}", op("Add", "members", [{"value": "{{u}}"}]), shown={"$.meta.version": 'W/"1"'}),
        get("/Groups/{{g}}", members("{{u}}", "{{v}}")),
    ],
}


@pytest.mark.parametrize("thread", LESSONS)
def test_a_lesson(client: Client, thread: str) -> None:
    user, group = name("u"), name("group")
    values = {"user": user, "group": group, "fresh": name("fresh"), "external": f"ext-{user}"}
    values["u"] = client.user(user, externalId=values["external"], title="kept")["id"]
    values |= {key: client.user(name(key))["id"] for key in ("v", "w")}
    values["g"] = client.group(group, values["u"], values["v"])["id"]
    for number, step in enumerate(LESSONS[thread], 1):
        assert list(step.complaints(client, values)) == [], number


def test_a_group_larger_than_a_page_in_one_put(client: Client) -> None:
    """goauthentik/authentik#12321: more than a hundred members in one PUT."""
    people = [client.user(name())["id"] for _ in range(120)]
    group = client.group(name("group"), people[0])
    whole = {"schemas": [GROUP], "displayName": group["displayName"], "members": [{"value": one} for one in people]}
    assert client.send("PUT", f"/Groups/{group['id']}", whole).status in (200, 204)
    assert client.members(group["id"]) == set(people)
