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

from idsync.model import DRILL, Access, Evidence, GivenRole, Observation, Reason, Standing

ORG_ADMIN = "org_admin"
"""The one role here that is not the account's but of its place in `routero.organization_id`."""
ADMIN_ROLES = frozenset({"proxy_admin", "proxy_admin_viewer", ORG_ADMIN})
"""Roles a group gives only with `allow_admin = true`, and that idsync lowers only where it gave them."""
TEAM_ADMIN, TEAM_USER = "admin", "user"
"""What somebody is in a team."""
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
    """Gives a team, a role or the admin's right in a team (`kind`: team, role, admin) to the members of its groups."""

    kind: str
    target: str
    groups: tuple[GroupSpec, ...]

    @property
    def name(self) -> str:
        """Return what `idsync groups bind` calls it."""
        return f"{self.target}/admin" if self.kind == "admin" else self.target


@dataclass(frozen=True)
class Rules:
    """The part of the configuration that decides about people."""

    idp_of: Mapping[str, str] = field(default_factory=dict)
    trust_email: frozenset[str] = frozenset()
    sso_idp: str | None = None
    """The directory whose external ids are the gateway's SSO ids; None: nobody knows."""
    rules: tuple[Rule, ...] = ()
    default_role: str = "internal_user"
    admins: frozenset[str] = frozenset()
    """Administrators' roles that the configuration lets groups give."""
    departed: str = "any"
    protected: tuple[Protection, ...] = ()
    polled: Mapping[str, str] = field(default_factory=dict)
    """The sources that are polled, and which kind of IdP each is: "okta" or "graph"."""
    group_loss_delete_after: float = 600.0
    disabled_delete_after: float = 0.0
    max_push_departures: int = 50
    team_ids: Mapping[str, str] = field(default_factory=dict)
    """The gateway's ids of the teams, by alias, as the configuration has them."""
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

    @cached_property
    def led(self) -> frozenset[str]:
        """Return the teams of which groups say who is admin."""
        return frozenset(rule.target for rule in self.rules if rule.kind == "admin")

    def account_role(self, role: str | None) -> str | None:
        """Return what the account of somebody with this role is to be, in the gateway's word.

        An org admin is one by their place in the organization; nobody is an admin whom `allow_admin` does not make one.
        """
        if role == ORG_ADMIN or (role in ADMIN_ROLES and role not in self.admins):
            role = self.default_role
        return STORED_ROLES.get(role or "", role)

    def is_org_admin(self, role: str | None) -> bool:
        return role == ORG_ADMIN and role in self.admins


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

    @property
    def what(self) -> str:
        return gives(self.kind, self.target)


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


def gives(kind: str, target: str) -> str:
    """Say what a binding of this kind gives."""
    return f"admin of team {target}" if kind == "admin" else f"{kind} {target}"


def role_to_set(wanted: str | None, shown: str | None, given: GivenRole | None = None) -> str | None:
    """Return the role an account must get, None to leave it. `given` is what idsync gave it, if it did.

    the account is | policy says            | idsync gave that | set
    ---------------+------------------------+------------------+------------------------------------
    no admin       | anything else          |                  | what policy says
    an admin       | proxy_admin            |                  | proxy_admin
    an admin       | another admin's role   | yes              | what policy says
    an admin       | no admin's role        | yes              | what policy says; the admin's role
                   |                        |                  | they had before, if they had one
    an admin       | not proxy_admin        | no               | nothing: reported
    """
    stored = STORED_ROLES.get(wanted or "", wanted)
    if stored is None or shown == stored:
        return None
    if shown not in ADMIN_ROLES or stored == "proxy_admin":
        return stored
    if given is None or given.role != shown:
        return None
    return given.before if given.before in ADMIN_ROLES and stored not in ADMIN_ROLES else stored


def team_role_to_set(wanted: str, shown: str | None, *, led: bool, given: bool) -> str | None:
    """Return what a member of a team must become, None to leave them.

    Who is admin is put right where groups say it (`led`); elsewhere an admin's right is taken only if idsync gave it.
    """
    if shown is None or shown == wanted:
        return None
    return wanted if wanted == TEAM_ADMIN or led or given else None


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
    leads = frozenset(entry.target for entry in hits if entry.kind == "admin")
    teams = leads | {entry.target for entry in hits if entry.kind == "team"}
    roles = {entry.target for entry in hits if entry.kind == "role"}
    reasons = tuple(
        Reason(entry.what, f"member of group {entry.group_id}")
        for entry in sorted(set(hits), key=lambda entry: (entry.kind, entry.target, entry.group_id))
    )
    if teams or roles:
        role = next((role for role in rules.roles if role in roles), rules.default_role)
        return Access(Standing.PRESENT, teams, role, leads, reasons=reasons)
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
