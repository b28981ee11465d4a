"""Bindings: which immutable group gives which team or role. Made by exact name once, by id from then on.

A name that two directories have binds nothing: which of the two is meant, a person says. One that was bound while only
one directory had it stays bound; whoever may make a group somewhere else takes nothing from anybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from idsync.clock import Clock
from idsync.model import Group
from idsync.policy import GroupSpec, Rule, gives
from idsync.standing import People
from idsync.store import directory, journal, people
from idsync.store.db import Db
from idsync.store.people import Binding


class Bindings:
    """Binds groups in the caller's transaction."""

    def __init__(self, standing: People, clock: Clock) -> None:
        self._standing = standing
        self._clock = clock

    def bind_by_name(self, db: Db, group: Group) -> bool:
        """Bind a group to every team and role whose configuration names it and that is not yet bound there.

        Returns whether that made a binding.
        """
        now = self._clock.now()
        named = [
            (rule, spec) for rule in self._standing.rules.rules for spec in rule.groups if _names_group(spec, group)
        ]
        made = [self._bind(db, rule, spec, group, now) for rule, spec in named]
        return any(made)

    def _bind(self, db: Db, rule: Rule, spec: GroupSpec, group: Group, now: float) -> bool:
        same = [
            binding
            for binding in people.bindings(db)
            if (binding.kind, binding.target, binding.spec) == (rule.kind, rule.target, spec.text)
        ]
        if any(binding.group_id == group.id for binding in same):
            return False
        idp = self._standing.rules.idp_of.get(group.source)
        foreign = [binding for binding in same if self._standing.rules.idp_of.get(binding.source) != idp]
        earlier = [binding for binding in same if binding.source == group.source]
        remedy = f"idsync groups bind {rule.name} {group.id}"
        if foreign or (not same and self._is_in_another_directory(db, spec, group)):
            detail = f"group name {group.display_name!r} of {gives(rule.kind, rule.target)} exists in two directories"
            people.open_conflict(db, "group_name", f"{rule.name}:{group.id}", detail, remedy, now)
        elif earlier:
            self._other_group_of_that_name(db, rule, group, earlier, remedy, now)
        else:
            people.add_binding(db, Binding(rule.kind, rule.target, spec.text, group.source, group.id), now)
            made = {"group": group.id, "name": group.display_name, "source": group.source}
            subject = gives(rule.kind, rule.target)
            journal.append(db, at=now, actor="idsync", action="binding.made", subject=subject, detail=made)
            return True
        return False

    def _is_in_another_directory(self, db: Db, spec: GroupSpec, group: Group) -> bool:
        """Tell whether the words that name this group name one of another directory as well."""
        idp_of = self._standing.rules.idp_of
        others = directory.groups_called(db, group.display_name) if spec.name is not None else []
        return any(
            _names_group(spec, other) and idp_of[other.source] != idp_of.get(group.source)
            for other in others
            if other.source in idp_of
        )

    def group_gone(self, db: Db, group: Group) -> None:
        """Alarm when a bound group was deleted whose name another one has taken already."""
        for binding in people.bindings_of_group(db, group.id):
            spec = GroupSpec.parse(binding.spec, self._standing.rules.sources)
            other = directory.group_by_name(db, group.source, spec.name) if spec.name is not None else None
            if other is not None and other.display_name == spec.name:
                rule = Rule(binding.kind, binding.target, (spec,))
                remedy = f"idsync groups bind {rule.name} {other.id}"
                self._other_group_of_that_name(db, rule, other, [binding], remedy, self._clock.now())

    def _other_group_of_that_name(
        self, db: Db, rule: Rule, group: Group, earlier: Sequence[Binding], remedy: str, now: float
    ) -> None:
        """Alarm, and hold the people of a bound group that is gone while another of its name appears."""
        gone = [binding for binding in earlier if _is_gone(db, binding.group_id)]
        if not gone:
            return
        what = gives(rule.kind, rule.target)
        detail = f"the group bound to {what} is gone; another one named {group.display_name!r} appeared"
        people.open_conflict(db, "rebind", f"{rule.name}:{group.id}", detail, remedy, now)
        if rule.kind in ("team", "admin"):
            self._standing.hold_leavers_of(db, rule.target, detail)


def _names_group(spec: GroupSpec, group: Group) -> bool:
    if spec.id is not None:
        return spec.id in (group.id, group.external_id)
    return spec.name == group.display_name and spec.source in (None, group.source)


def _is_gone(db: Db, group_id: str) -> bool:
    group = directory.group_any(db, group_id)
    return group is None or group.deleted_at is not None
