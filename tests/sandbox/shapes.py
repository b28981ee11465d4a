"""Answers of the real things, as recorded or documented, with names and numbers made up; and how to compare them."""

from __future__ import annotations

import json
from typing import Any

_KINDS = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}


def shape(value: Any) -> Any:
    """Member names and JSON types. Of an array, its first item."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "null" if value is None else _KINDS[type(value)]


# github.com/okta/okta-sdk-python, tests/integration/cassettes: TestGroupsResource.test_group_users_operations,
# TestApplicationsResource.test_get_list_assign_users_app
OKTA_USER = json.loads("""
{"id":"00un80cs012BFqaDU4x6","status":"ACTIVE","created":"2020-07-28T14:25:16.000Z",
 "activated":"2020-07-28T14:25:16.000Z","statusChanged":"2020-07-28T14:25:16.000Z","lastLogin":null,
 "lastUpdated":"2020-07-28T14:25:17.000Z","passwordChanged":"2020-07-28T14:25:17.000Z",
 "type":{"id":"otyc04qb2rUDcq2YA4x6"},
 "profile":{"firstName":"John","lastName":"Doe","mobilePhone":null,"secondEmail":null,"login":"j@example.com",
  "email":"j@example.com"},
 "credentials":{"password":{},"emails":[{"value":"j@example.com","status":"VERIFIED","type":"PRIMARY"}],
  "provider":{"type":"OKTA","name":"OKTA"}},
 "_links":{"self":{"href":"https://test.okta.com/api/v1/users/00un80cs012BFqaDU4x6"}}}""")
OKTA_GROUP = json.loads("""
{"id":"00gn81p2oWW4GF45z4x6","created":"2020-07-28T14:25:17.000Z","lastUpdated":"2020-07-28T14:25:17.000Z",
 "lastMembershipUpdated":"2020-07-28T14:25:17.000Z","objectClass":["okta:user_group"],"type":"OKTA_GROUP",
 "profile":{"name":"Group-Target-Test","description":null},
 "_links":{"logo":[],"users":{"href":"https://test.okta.com/api/v1/groups/00gn81p2oWW4GF45z4x6/users"},
  "apps":{"href":"https://test.okta.com/api/v1/groups/00gn81p2oWW4GF45z4x6/apps"}}}""")
OKTA_APP_USER = json.loads("""
{"id":"00uoiiw2bJ1GTFKCX4x6","externalId":null,"created":"2020-08-04T15:30:39.000Z",
 "lastUpdated":"2020-08-04T15:30:39.000Z","scope":"USER","status":"ACTIVE",
 "statusChanged":"2020-08-04T15:30:39.000Z","passwordChanged":null,"syncState":"DISABLED",
 "credentials":{"userName":"j@example.com"},"profile":{},
 "_links":{"app":{"href":"https://test.okta.com/api/v1/apps/0oaoitopiDhcTLdRE4x6"},
  "user":{"href":"https://test.okta.com/api/v1/users/00uoiiw2bJ1GTFKCX4x6"}}}""")
OKTA_TOO_MANY = json.loads("""
{"errorCode":"E0000047","errorSummary":"API call exceeded rate limit due to too many requests.",
 "errorLink":"E0000047","errorId":"oae6dB62BdhRFCF_9ltxiklFQ","errorCauses":[]}""")

# learn.microsoft.com/graph/api/group-delta and /graph/delta-query-groups
GRAPH_GROUPS_DELTA = json.loads("""
{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#groups(displayName,description)",
 "@odata.nextLink":"https://graph.microsoft.com/v1.0/groups/delta?$skiptoken=pqwSUjGYvb3jQpbwVAwEL7yuI3dU1LecfkkfLPtnIj",
 "value":[{"displayName":"TestGroup1","description":"Employees in test group 1",
  "id":"c2f798fd-f95d-4623-8824-63aec21fffff",
  "members@delta":[{"@odata.type":"#microsoft.graph.user","id":"693acd06-2877-4339-8ade-b704261fe7a0"}]}]}""")
GRAPH_NOT_FOUND = json.loads("""
{"error":{"code":"Request_ResourceNotFound",
 "message":"Resource '5b31c38c' does not exist or one of its queried reference-property objects are not present.",
 "innerError":{"date":"2021-04-20T17:22:30","request-id":"f58cc4de-b427-41de-b37c-46ee4925a26d",
  "client-request-id":"f58cc4de-b427-41de-b37c-46ee4925a26d"}}}""")
ENTRA_REFUSAL = json.loads("""
{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired. Trace ID: a586",
 "error_codes":[7000222],"timestamp":"2019-10-31 12:37:32Z","trace_id":"a586af20-bd59-4bd7-8c85-443558347400",
 "correlation_id":"a4b83fcf-5fd9-44ea-9dbc-43abb1d59a75","error_uri":"https://login.microsoftonline.com/error?code=7000222"}
""")
