"""Why a person has what they have: every record, group, rule, ban and hold that gave or took something."""

from __future__ import annotations

from typing import Any

from idsync.clock import Clock, rfc3339
from idsync.model import Person
from idsync.policy import TEAM_ADMIN, Rules, gives
from idsync.standing import People
from idsync.store import directory, ledger, people, polled, refusals, roles
from idsync.store.db import Db
from idsync.store.people import Grant


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
                "role": grant.role,
                "role_because": _why_in_team(db, person, grant, rules),
            }
            for grant in people.grants(db, person.id)
        ],
        "role": person.role,
        "role_because": _why_role(db, person, rules) if person.role is not None else None,
        "given_roles": [
            {"place": given.place, "role": given.role, "before": given.before, "since": rfc3339(given.noted_at)}
            for given in (roles.of_account(db, person.account_id) if person.account_id else {}).values()
        ],
        "refused": {refusals.WORDS[what]: why for what, (why, _) in refusals.standing(db, clock.now()).items()},
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


def _why_role(db: Db, person: Person, rules: Rules) -> str:
    """Name the rule that gives somebody their role, and those that would have given another one."""
    through = {role: groups for role in rules.roles if (groups := _groups_giving(db, person, rules, "role", role))}
    stored = rules.account_role(person.role)
    as_what = f"; the account is {stored}" if stored != person.role else ""
    if person.role not in through:
        return f"policy.default_role: in no group of a [[roles]] entry{as_what}"
    later = [role for role in through if role != person.role]
    also = f"; it goes before {', '.join(later)}" if later else ""
    return f"[[roles]] {person.role}: in {', '.join(through[person.role])}{also}{as_what}"


def _why_in_team(db: Db, person: Person, grant: Grant, rules: Rules) -> str:
    groups = _groups_giving(db, person, rules, "admin", grant.team)
    if grant.role == TEAM_ADMIN:
        return f"teams.{grant.team}.admins: in {', '.join(groups) or 'no group of it any more'}"
    return (
        f"in no group of teams.{grant.team}.admins" if grant.team in rules.led else "no group gives admins of this team"
    )


def _groups_giving(db: Db, person: Person, rules: Rules, kind: str, target: str) -> list[str]:
    """Return the groups through which somebody gets something, each with its source."""
    return sorted(
        f"{group.display_name} ({group.source})"
        for user in directory.users_of_person_any(db, person.id)
        if user.source in rules.idp_of and user.deleted_at is None
        for group_id in directory.groups_of(db, user.id)
        for binding in people.bindings_of_group(db, group_id)
        if (binding.kind, binding.target) == (kind, target) and rules.still_names(kind, target, binding.spec)
        and (group := directory.group_any(db, group_id)) is not None
    )  # fmt: skip


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
                    "gives": [gives(b.kind, b.target) for b in people.bindings_of_group(db, group.id)],
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
