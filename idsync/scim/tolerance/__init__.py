"""How real identity providers bend SCIM, as lists of named rules over the decoded request.

Every rule says what it forgives and who sends it. The result is plain RFC 7644 for the core and the short cuts in
`hot`. What no rule understands is a 400 with a sentence: a 200 that changed nothing is how leavers keep their keys.
With `strict` none of the rules run; only the checks that no dialect may bend (booleans, read-only, limits) remain.
"""

from idsync.scim.tolerance.bulk import bulk
from idsync.scim.tolerance.patch import PATCH_RULES, message, patch, strict_patch
from idsync.scim.tolerance.query import FILTER_RULES, filter_text, read_query, search_body
from idsync.scim.tolerance.resource import RESOURCE_RULES, resource
from idsync.scim.tolerance.values import ABSENT, Notes, Rule

__all__ = [
    "ABSENT",
    "FILTER_RULES",
    "PATCH_RULES",
    "RESOURCE_RULES",
    "Notes",
    "Rule",
    "bulk",
    "filter_text",
    "message",
    "patch",
    "read_query",
    "resource",
    "search_body",
    "strict_patch",
]
