"""Why a person has what they have: every record, group, rule, ban and hold that gave or took something."""

from __future__ import annotations

from typing import Any

from idsync.clock import Clock, rfc3339
from idsync.model import Person
from idsync.policy import Rules
from idsync.standing import People
from idsync.store import directory, ledger, people, polled
from idsync.store.db import Db


def explain(db: Db, person: Person, rules: Rules, clock: Clock) -> dict[str, Any]:
    """Return what is known of a person and what follows from it, as `idsync explain --json` shows it."""
    standing = People(rules, clock)
    access = standing.access_of(db, person)
    ban = people.live_ban(db, person.id)
    departure = ledger.open_departure(db, person.id)
    return {
        "user": person.label,
        "person": person.id,
        "gateway_user_id": person.account_id,
        "further_accounts": people.further_accounts(db, person.id),
        "standing": access.standing.value,
        "evidence": access.evidence.value if access.evidence is not None else None,
        "because": [{"what": reason.what, "why": reason.why} for reason in access.reasons],
        "records": _records(db, person, rules),
        "teams": [
            {
                "team": grant.team,
                "state": grant.state,
                "since": rfc3339(grant.since),
                "deleted_at": rfc3339(grant.delete_at) if grant.delete_at is not None else None,
                "hold": grant.hold_id,
            }
            for grant in people.grants(db, person.id)
        ],
        "role": person.role,
        "ban": {"reason": ban.reason, "by": ban.created_by, "at": rfc3339(ban.created_at)} if ban is not None else None,
        "protected": standing.protected(db, person),
        "departure": {"id": departure.id, "state": departure.state.value, "cause": departure.cause}
        if departure
        else None,
        "holds": [
            {"hold": held.hold_id, "source": held.source, "loss": held.loss}
            for held in polled.held_losses(db)
            if held.person_id == person.id
        ],
    }


def _records(db: Db, person: Person, rules: Rules) -> list[dict[str, Any]]:
    """Return each record with its groups; `gives` names what a group is bound to, nothing if to nothing."""
    return [
        {
            "source": user.source,
            "configured": user.source in rules.idp_of,
            "user_name": user.user_name,
            "external_id": user.external_id,
            "says": user.observation.value,
            "as_of": rfc3339(user.observed_at),
            "deleted": user.deleted_at is not None,
            "groups": [
                {
                    "group": group.display_name,
                    "id": group.id,
                    "gives": [f"{b.kind} {b.target}" for b in people.bindings_of_group(db, group.id)],
                }
                for group_id in sorted(directory.groups_of(db, user.id))
                if (group := directory.group_any(db, group_id)) is not None
            ],
            "ended": [
                {"group": group.display_name if group is not None else group_id, "at": rfc3339(at)}
                for group_id, at in sorted(polled.ended(db, user.id).items())
                for group in [directory.group_any(db, group_id)]
            ],
        }
        for user in directory.users_of_person_any(db, person.id)
    ]
