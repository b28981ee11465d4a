"""What each person may have: a pure function of their records, the bindings, the bans and the rules.

    what is known of the person                              | standing   | evidence
    ---------------------------------------------------------+------------+-----------------------------
    a live ban                                               | departed   | revoked
    protected (and no ban that overrides it)                 | unmanaged  |
    a source says inactive or gone (policy.departed any|all) | departed   | scim_inactive, scim_delete,
                                                             |            | deprovisioned, deleted, disabled
    a source says suspended                                  | suspended  | suspended
    in a group that is bound to a team or a role             | present    |
    in none now, but once had access                         | departed   | group_loss
    in none, and never had access                            | unmanaged  |

Default deny: a record that says nothing usable gives nothing, and takes nothing. Where several sources show one
directory, the newest word on a person and a group counts: a membership that one of them has ended since is not given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from idsync.model import DRILL, Access, Evidence, Observation, Reason, Standing

ADMIN_ROLES = frozenset({"proxy_admin", "proxy_admin_viewer", "org_admin"})
"""Roles an IdP group can never give, and that idsync never lowers."""


STORED_ROLES = {"internal_viewer": "internal_user_viewer"}
"""Routero's guide says `internal_viewer` for what the gateway stores as `internal_user_viewer`."""
MANUAL = "manual"
"""The spec of a binding made with `idsync groups bind`."""


@dataclass(frozen=True)
class Protection:
    """People idsync never touches. `match` is an e-mail, userName or gateway user_id; `expires` in epoch seconds."""

    match: str
    reason: str
    expires: float | None = None


@dataclass(frozen=True)
class GroupSpec:
    """A group as the configuration names it: a display name, one of a single source, or an immutable id."""

    text: str
    name: str | None
    source: str | None
    id: str | None

    @classmethod
    def parse(cls, text: str, sources: Collection[str]) -> GroupSpec:
        """Read `Name`, `source/Name` (only when that source exists: names may hold slashes) or `id:...`."""
        if text.startswith("id:"):
            return cls(text, None, None, text.removeprefix("id:"))
        source, slash, name = text.partition("/")
        if slash and source in sources:
            return cls(text, name, source, None)
        return cls(text, text, None, None)


@dataclass(frozen=True)
class Rule:
    """Gives a team or a role ("kind") to the members of the groups it names."""

    kind: str
    target: str
    groups: tuple[GroupSpec, ...]


@dataclass(frozen=True)
class Rules:
    """The part of the configuration that decides about people."""

    idp_of: Mapping[str, str] = field(default_factory=dict)
    trust_email: frozenset[str] = frozenset()
    sso_idp: str | None = None
    """The directory whose external ids are the gateway's SSO ids; None: nobody knows."""
    rules: tuple[Rule, ...] = ()
    default_role: str = "internal_user"
    departed: str = "any"
    protected: tuple[Protection, ...] = ()
    polled: Mapping[str, str] = field(default_factory=dict)
    """The sources that are polled, and which kind of IdP each is: "okta" or "graph"."""
    group_loss_delete_after: float = 600.0
    disabled_delete_after: float = 0.0
    max_push_departures: int = 50
    rotating: frozenset[str] = frozenset()
    """Teams whose shared keys are to be rotated when somebody leaves."""

    def share(self, source: str) -> bool:
        """Tell whether another source shows the same directory."""
        return source in self._shared

    @cached_property
    def _shared(self) -> frozenset[str]:
        idps = list(self.idp_of.values())
        return frozenset(source for source, idp in self.idp_of.items() if idps.count(idp) > 1)

    @property
    def sources(self) -> frozenset[str]:
        """Return the sources the configuration names: all but the drill's."""
        return frozenset(self.idp_of) - {DRILL}

    def still_names(self, kind: str, target: str, spec: str) -> bool:
        """Tell whether a binding counts: made by hand, or from words the configuration still has."""
        texts = self._texts.get((kind, target))
        return texts is not None and (spec == MANUAL or spec in texts)

    @cached_property
    def _texts(self) -> Mapping[tuple[str, str], frozenset[str]]:
        """The words that name groups, by what they give."""
        found: dict[tuple[str, str], frozenset[str]] = {}
        for rule in self.rules:
            known = found.get((rule.kind, rule.target), frozenset())
            found[rule.kind, rule.target] = known | {group.text for group in rule.groups}
        return found

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles in the order of the configuration: the first that matches wins."""
        return tuple(dict.fromkeys(rule.target for rule in self.rules if rule.kind == "role"))


@dataclass(frozen=True)
class Record:
    """What one source says of the person: who they are there, whether present, and in which groups."""

    source: str
    observation: Observation
    observed_at: float
    groups: frozenset[str]
    deleted: bool = False
    told: Mapping[str, float] = field(default_factory=dict)
    """As of when each direct membership was last said to be true; only where sources share a directory."""
    ended: Mapping[str, float] = field(default_factory=dict)
    """When which memberships were said to have ended; only where sources share a directory."""


@dataclass(frozen=True)
class Bound:
    """One binding as policy needs it. Groups of one directory with the same `spec` are the same group."""

    kind: str
    target: str
    group_id: str
    spec: str = ""


def decide(
    records: Sequence[Record],
    bound: Iterable[Bound],
    rules: Rules,
    *,
    banned: str | None = None,
    protected: str | None = None,
    ever_had_access: bool = False,
) -> Access:
    """Return what a person may have now.

    `banned` and `protected` are the reasons in words, None when they do not apply.
    """
    if banned is not None:
        return _gone(Evidence.REVOKED, "ban", banned)
    if protected is not None:
        return Access(Standing.UNMANAGED, reasons=(Reason("left alone", f"protected: {protected}"),))
    known = [record for record in records if record.source in rules.idp_of]
    newest = _newest(known, rules)
    verdict = _verdict(list(newest.values()), rules)
    if verdict is not None:
        return verdict
    here = {idp for idp, record in newest.items() if record.observation is Observation.PRESENT}
    told = [record for record in known if rules.idp_of[record.source] in here]
    return _from_groups(told, bound, rules, ever_had_access)


def role_to_set(wanted: str | None, shown: str | None) -> str | None:
    """Return the role a gateway user must get, None when it has it; an admin is never lowered."""
    stored = STORED_ROLES.get(wanted or "", wanted)
    return None if stored is None or shown in ADMIN_ROLES or shown == stored else stored


def protection(names: Iterable[str | None], rules: Rules, now: float) -> str | None:
    """Return why somebody with one of these names is protected, or None."""
    folded = {name.casefold() for name in names if name}
    for entry in rules.protected:
        if entry.match.casefold() in folded and (entry.expires is None or entry.expires > now):
            return entry.reason
    return None


def _gone(evidence: Evidence, what: str, why: str) -> Access:
    standing = Standing.SUSPENDED if evidence is Evidence.SUSPENDED else Standing.DEPARTED
    return Access(standing, evidence=evidence, reasons=(Reason(what, why),))


def _newest(records: Sequence[Record], rules: Rules) -> dict[str, Record]:
    """Return what each directory says: its newest observation that says anything."""
    newest: dict[str, Record] = {}
    for record in records:
        idp = rules.idp_of[record.source]
        if record.observation is Observation.UNKNOWN:
            continue
        if idp not in newest or _is_newer(record, newest[idp]):
            newest[idp] = record
    return newest


def _verdict(newest: Sequence[Record], rules: Rules) -> Access | None:
    """Ask each directory whether the person is there; `policy.departed` says how many must deny it."""
    denials = [record for record in newest if record.observation is not Observation.PRESENT]
    if not denials or (rules.departed == "all" and len(denials) < len(newest)):
        return None
    left = [record for record in denials if record.observation is not Observation.SUSPENDED]
    if not left:
        return _gone(Evidence.SUSPENDED, "suspended", f"{denials[0].source} says suspended")
    first = left[0]
    return _gone(_evidence(first, rules), "left", f"{first.source} {_word(first, rules)}")


def _evidence(record: Record, rules: Rules) -> Evidence:
    kind = rules.polled.get(record.source)
    if record.observation is Observation.ABSENT:
        return Evidence.SCIM_DELETE if kind is None else Evidence.DELETED
    return {None: Evidence.SCIM_INACTIVE, "graph": Evidence.DISABLED}.get(kind, Evidence.DEPROVISIONED)


def _word(record: Record, rules: Rules) -> str:
    if record.observation is Observation.ABSENT:
        return "deleted the user"
    return "shows the account disabled" if record.source in rules.polled else "says active=false"


def _is_newer(one: Record, other: Record) -> bool:
    """A live record of a directory outweighs a tombstone of the same directory: the person came back."""
    if one.deleted != other.deleted:
        return other.deleted
    return one.observed_at >= other.observed_at


def _from_groups(records: Sequence[Record], bound: Iterable[Bound], rules: Rules, ever_had_access: bool) -> Access:
    bindings = list(bound)
    hits = [
        entry
        for record in records
        if record.observation is Observation.PRESENT
        for entry in bindings
        if entry.group_id in record.groups and not _has_ended(entry, record, records, bindings, rules)
    ]
    teams = frozenset(entry.target for entry in hits if entry.kind == "team")
    roles = {entry.target for entry in hits if entry.kind == "role"}
    reasons = tuple(
        Reason(f"{entry.kind} {entry.target}", f"member of group {entry.group_id}")
        for entry in sorted(set(hits), key=lambda entry: (entry.kind, entry.target, entry.group_id))
    )
    if teams or roles:
        role = next((role for role in rules.roles if role in roles), rules.default_role)
        return Access(Standing.PRESENT, teams, role, reasons=reasons)
    if ever_had_access:
        return _gone(Evidence.GROUP_LOSS, "no group", "in no group that is bound to a team or a role any more")
    return Access(Standing.UNMANAGED, reasons=(Reason("nothing", "in no group that is bound to a team or a role"),))


def _has_ended(
    entry: Bound, record: Record, records: Sequence[Record], bindings: Sequence[Bound], rules: Rules
) -> bool:
    """Tell whether another source of the directory has said since that the person is not in this group.

    A membership through a nested group is as young as the person's youngest direct one. Pushes are timed in whole
    milliseconds; of two words within one, the one that takes counts.
    """
    if not rules.share(record.source):
        return False
    told = record.told.get(entry.group_id, max(record.told.values(), default=0.0))
    same = {
        other.group_id
        for other in bindings
        if (other.kind, other.target, other.spec) == (entry.kind, entry.target, entry.spec)
    }
    idp = rules.idp_of[record.source]
    return any(
        at >= round(told, 3)
        for other in records
        if other.source != record.source and rules.idp_of[other.source] == idp
        for group_id, at in other.ended.items()
        if group_id in same
    )
