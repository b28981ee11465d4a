"""Delta queries: a full round, then what changed since, with everything the token is bound to inside the token."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from idsync.sandbox.graph import bodies
from idsync.sandbox.graph.replies import opened, sealed
from idsync.sandbox.graph.state import Change, Group, Tenant

JSON = dict[str, Any]
LIFETIME = 7 * 86400.0  # of a token, for directory objects
State = Literal["good", "expired", "unknown"]


@dataclass(frozen=True)
class Token:
    kind: str  # user or group
    select: tuple[str, ...]
    since: int  # changes before this one are known
    upto: int  # where this round ends, and the next one begins
    full: bool
    issued: float
    epoch: int
    ids: tuple[str, ...] = ()  # $filter on ids
    place: int = 0
    member: int = 0  # how far into the members of the group at `place`
    page: int = 1

    def seal(self) -> str:
        return sealed(self.__dict__)

    @classmethod
    def open(cls, text: str, kind: str, now: float, epoch: int) -> tuple[State, Token | None]:
        content = opened(text)
        if content is None or content.get("kind") != kind:
            return "unknown", None
        try:
            token = cls(**content | {"select": tuple(content["select"]), "ids": tuple(content["ids"])})
        except (KeyError, TypeError):
            return "unknown", None
        good = token.epoch == epoch and now - token.issued < LIFETIME
        return ("good", token) if good else ("expired", None)


@dataclass(frozen=True)
class Page:
    rows: list[str]
    following: Token | None  # the next page of this round
    done: Token | None  # or where the next round begins


class Delta:
    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def page(self, token: Token, size: int, members: int) -> Page:
        """`members` is how many members a page of groups holds at most."""
        if not token.full:
            return self._changed(token, size)
        return self._everybody(token, size) if token.kind == "user" else self._all_groups(token, size, members)

    def _everybody(self, token: Token, size: int) -> Page:
        write = bodies.writer("user", token.select)
        wanted = set(token.ids)
        users, place, more = self._tenant.users.page(
            token.place, size, (lambda user: user.id in wanted) if wanted else None
        )
        return self._page(token, [write(user) for user in users], replace(token, place=place) if more else None)

    def _all_groups(self, token: Token, size: int, most: int) -> Page:
        """A large group goes on over several pages, its own properties repeated."""
        rows: list[str] = []
        at, left = token, most
        while len(rows) < size and left > 0:
            groups, after, _ = self._tenant.groups.page(at.place, 1, self._asked(token))
            if not groups:
                return self._page(token, rows, None)
            found, place, more = groups[0].members.page(at.member, left) if _members(token) else ([], 0, False)
            left -= max(1, len(found))
            shown = [f'{{"@odata.type":"#microsoft.graph.{m.kind}","id":"{m.id}"}}' for m in found if m.deleted is None]
            rows.append(self._group_row(groups[0], token, shown))
            ended = not more or place >= groups[0].members.end
            at = replace(at, place=after, member=0) if ended else replace(at, member=place)
        return self._page(token, rows, at)

    def _asked(self, token: Token) -> Callable[[Any], bool] | None:
        wanted = set(token.ids)
        return (lambda group: group.id in wanted) if wanted else None

    def _group_row(self, group: Group, token: Token, members: list[str]) -> str:
        written = bodies.writer("group", tuple(name for name in token.select if name != "members"))(group)
        return f'{written[:-1]},"members@delta":[{",".join(members)}]}}' if members else written

    def _changed(self, token: Token, size: int) -> Page:
        rows = list(self._changed_rows(token))
        shown = rows[token.place : token.place + size]
        more = token.place + size < len(rows)
        return self._page(token, shown, replace(token, place=token.place + size) if more else None)

    def _changed_rows(self, token: Token) -> Iterator[str]:
        changes: dict[str, list[Change]] = {}
        for change in self._tenant.changes[token.since : token.upto]:
            if change.kind == token.kind and (not token.ids or change.id in token.ids):
                changes.setdefault(change.id, []).append(change)
        for ref, made in changes.items():
            row = self._user_row(ref, made, token) if token.kind == "user" else self._group_change(ref, made, token)
            if row is not None:
                yield row

    def _user_row(self, ref: str, made: list[Change], token: Token) -> str | None:
        user = self._tenant.users.get(ref)
        if user is None:
            return json.dumps({"id": ref, "@removed": {"reason": _reason(ref in self._tenant.deleted)}})
        return bodies.writer("user", token.select)(user) if _touched(made, token.select) else None

    def _group_change(self, ref: str, made: list[Change], token: Token) -> str | None:
        group = self._tenant.groups.get(ref)
        if group is None:
            return json.dumps({"id": ref, "@removed": {"reason": "deleted"}})
        moved = {change.member[1]: change.member for change in made if change.member} if _members(token) else {}
        if not moved and not _touched(made, token.select):
            return None
        return self._group_row(group, token, [_moved(*member) for member in moved.values()])

    def _page(self, token: Token, rows: list[str], following: Token | None) -> Page:
        if following is not None:
            return Page(rows, replace(following, page=token.page + 1), None)
        done = replace(token, since=token.upto, full=False, place=0, member=0, page=1, issued=self._tenant.now())
        return Page(rows, None, done)

    def first(self, kind: str, select: tuple[str, ...], ids: tuple[str, ...], epoch: int) -> Token:
        return Token(kind, select, 0, len(self._tenant.changes), True, self._tenant.now(), epoch, ids)

    def latest(self, kind: str, select: tuple[str, ...], ids: tuple[str, ...], epoch: int) -> Token:
        """Where a round begins that knows everything until now."""
        return replace(self.first(kind, select, ids, epoch), since=len(self._tenant.changes), full=False)

    def resumed(self, token: Token) -> Token:
        """A round that begins now, from a deltaLink."""
        return replace(token, upto=len(self._tenant.changes))


def noisy(rows: list[str], seed: int, page: int) -> list[str]:
    """Some of the items twice, and all of them in any order, as the documentation warns."""
    chance = random.Random(f"{seed}.{page}")  # noqa: S311 - repeatable on purpose
    mixed = rows + [row for row in rows if chance.random() < 0.3]
    chance.shuffle(mixed)
    return mixed


def _members(token: Token) -> bool:
    return "members" in token.select


def _touched(made: list[Change], select: tuple[str, ...]) -> bool:
    return any(change.what in ("all", *select) for change in made if change.what != "member")


def _moved(kind: str, ref: str, is_member: bool) -> str:
    row: JSON = {"@odata.type": f"#microsoft.graph.{kind}", "id": ref}
    return json.dumps(row if is_member else row | {"@removed": {"reason": "deleted"}})


def _reason(restorable: bool) -> str:
    return "changed" if restorable else "deleted"
