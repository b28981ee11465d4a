"""/invitation/*: single-use links of seven days. A pending one still lets a leaver in."""

from __future__ import annotations

from typing import Any

from idsync.sandbox.calls import ROUTERO, Call, Endpoint
from idsync.sandbox.objects import invitation_row
from idsync.sandbox.replies import shape_b
from idsync.sandbox.validate import require


def listing(call: Call) -> Any:
    found = call.state.invitations.values()
    return [invitation_row(i) for i in found if call.organization in (None, i.organization_id)]


def new(call: Call) -> Any:
    user = call.user(require(call.body, "user_id"))
    if user is None:
        raise shape_b(404, "User not found")
    return invitation_row(call.world.invite(user, call.organization or call.world.default_organization))


def delete(call: Call) -> Any:
    invitation = call.state.invitations.get(require(call.body, "invitation_id"))
    if invitation is None or call.organization not in (None, invitation.organization_id):
        raise shape_b(404 if call.world.routero else 400, "Invitation id does not exist in the database.")
    del call.state.invitations[invitation.invitation_id]
    return invitation_row(invitation)


ENDPOINTS = [
    Endpoint("POST", "/invitation/new", new),
    Endpoint("GET", "/invitation/list", listing, dialects=ROUTERO),
    Endpoint("POST", "/invitation/delete", delete),
]
