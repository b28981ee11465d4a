"""Compare what a source lists with what is known of it: what to take in, and whom to look up by id. Changes nothing.

what is listed                                 | what is known                | what follows
-----------------------------------------------+------------------------------+----------------------------------------
present                                        | nothing                      | taken in (*)
present                                        | present, other names         | taken in
present                                        | left or suspended            | looked up: they may be back
left, suspended                                | present                      | looked up
left, suspended                                | nothing, no account at all   | ignored: there is nothing to take
left, suspended                                | the same, but has access     | looked up: another source brought them back
unknown                                        | anything                     | counted; nothing is given, nothing taken
not listed, in a listing of everybody          | in a group, or has access    | looked up
not in a group that was listed                 | a member, by any source      | looked up
anything                                       | a loss of theirs is held     | looked up: they may be back

(*) Changes are told of everybody in the directory: strangers are taken in only when a listed group has them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from idsync.intake.polls import DENIALS
from idsync.model import Observation
from idsync.policy import Rules
from idsync.snapshot import Changes, Seen, SeenGroup, Snapshot
from idsync.store import directory, people, polled
from idsync.store.db import Db
from idsync.store.polled import Known


@dataclass
class Findings:
    """What differs. `groups` are those to write, with who joins; `nominated` maps the external ids of users to look up to the groups to ask about.

    `absent` are those nominated because something was missing, which a look may contradict.
    """

    users: dict[str, Seen] = field(default_factory=dict)
    groups: list[tuple[SeenGroup, frozenset[str]]] = field(default_factory=list)
    nominated: dict[str, set[str]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)

    def nominate(self, external_id: str, groups: Collection[str] = ()) -> None:
        self.nominated.setdefault(external_id, set()).update(groups)

    @property
    def joiners(self) -> frozenset[str]:
        return frozenset().union(*(joins for _, joins in self.groups))


def compare(db: Db, rules: Rules, listing: Snapshot | Changes, accounts: Collection[str] = ()) -> Findings:
    """Return what a listing differs in. `accounts` are the SSO ids of gateway accounts that nobody is linked to."""
    source, everybody = listing.source, isinstance(listing, Snapshot)
    members = frozenset().union(*(group.members for group in listing.groups.values()))
    told = listing.look_up if isinstance(listing, Changes) else frozenset[str]()
    named = None if everybody else {*listing.users, *members, *told}
    known = polled.known_users(db, source, None if named is None else sorted(named))
    busy = set(people.persons_with_access(db))
    found = Findings()
    for external_id, seen in listing.users.items():
        ours = everybody or external_id in known or external_id in members
        if ours or _is_known_beside(db, rules, source, external_id):  # changes are told of the whole directory
            _compare_user(db, rules, source, seen, known.get(external_id), busy, accounts, found)
    if everybody:
        _find_missing(db, listing.users, known, busy, found)
    for held in polled.held_losses(db, source=source):
        if named is None or held.external_id in named or listing.groups.keys() & held.loss["ended"]:
            found.nominate(held.external_id)
    for group in listing.groups.values():
        _compare_group(db, rules, source, group, known, found)
    for external_id in (*polled.absent(db, source), *sorted(told)):
        if external_id in known or external_id in found.nominated or _is_known_beside(db, rules, source, external_id):
            found.nominate(external_id)
    for external_id in list(found.nominated):
        if external_id in known:
            found.nominate(external_id, groups_of(db, known[external_id]))
    return found


def _compare_user(
    db: Db,
    rules: Rules,
    source: str,
    seen: Seen,
    before: Known | None,
    busy: Collection[str],
    accounts: Collection[str],
    found: Findings,
) -> None:
    denied = seen.observation in DENIALS
    if seen.observation is Observation.UNKNOWN:
        found.unknown[seen.external_id] = seen.why
    elif before is None and not denied:
        found.users[seen.external_id] = seen
    elif before is None:
        if seen.external_id in accounts or _is_known_beside(db, rules, source, seen.external_id):
            found.nominate(seen.external_id)
        else:
            found.ignored.add(seen.external_id)
    elif denied:
        if before.observation is not seen.observation or before.person_id in busy:
            found.nominate(seen.external_id)
    elif before.observation is not Observation.PRESENT:
        if seen.at > before.observed_at:
            found.nominate(seen.external_id)
    elif (seen.user_name, seen.email, seen.display_name) != (before.user_name, before.email, before.display_name):
        found.users[seen.external_id] = seen


def _is_known_beside(db: Db, rules: Rules, source: str, external_id: str) -> bool:
    """Tell whether another source of the directory has spoken of this user."""
    idp = rules.idp_of.get(source)
    beside = [name for name, other in rules.idp_of.items() if other == idp and name != source]
    return bool(beside) and bool(directory.users_by_external_any(db, beside, external_id))


def _find_missing(
    db: Db, listed: Mapping[str, Seen], known: Mapping[str, Known], busy: Collection[str], found: Findings
) -> None:
    for external_id, before in known.items():
        if external_id in listed or before.observation is not Observation.PRESENT:
            continue
        if before.person_id in busy or groups_of(db, before):
            found.nominate(external_id)
            found.absent.add(external_id)


def groups_of(db: Db, user: Known) -> set[str]:
    """Return the groups (external ids) a user is known to be in, directly."""
    return {group.external_id for group in directory.direct_groups(db, user.id) if group.external_id}


def _compare_group(
    db: Db, rules: Rules, source: str, seen: SeenGroup, known: Mapping[str, Known], found: Findings
) -> None:
    group = directory.group_by_external(db, source, seen.external_id)
    members = polled.members_by_external(db, group.id) if group is not None else {}
    for external_id in members.keys() - seen.members:
        found.nominate(external_id, [seen.external_id])
        found.absent.add(external_id)
    if group is not None:
        for external_id in _told_elsewhere(db, rules, source, group.id, seen) - members.keys():
            found.nominate(external_id, [seen.external_id])
    joins = [external_id for external_id in seen.members if external_id not in members]
    ours = {external_id for external_id in joins if external_id in known or external_id in found.users}
    for external_id in joins:
        decided = external_id in ours or external_id in found.unknown or external_id in found.ignored
        if not decided and external_id not in found.nominated:
            found.nominate(external_id, [seen.external_id])
    renamed = group is None or group.display_name != seen.display_name
    if ours or renamed or rules.share(source):
        found.groups.append((seen, frozenset(ours)))


def _told_elsewhere(db: Db, rules: Rules, source: str, group_id: str, seen: SeenGroup) -> set[str]:
    """Return whom another source of the directory has put into the same group, and this listing does not show."""
    idp = rules.idp_of.get(source)
    ours = {(b.kind, b.target, b.spec) for b in people.bindings_of_group(db, group_id)}
    missing: set[str] = set()
    if not ours or not rules.share(source):
        return missing
    for other in people.bindings(db):
        same = (other.kind, other.target, other.spec) in ours and other.group_id != group_id
        if same and rules.idp_of.get(other.source) == idp:
            for external_id, since in polled.memberships_told(db, other.group_id, seen.at):
                if external_id not in seen.members and not _is_ended(db, source, group_id, external_id, since):
                    missing.add(external_id)
    return missing


def _is_ended(db: Db, source: str, group_id: str, external_id: str, since: float) -> bool:
    record = polled.known_users(db, source, [external_id]).get(external_id)
    return record is not None and polled.ended(db, record.id).get(group_id, 0.0) > since
