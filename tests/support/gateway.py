"""The sandbox as these tests look at it: who has which key, whether it works, what was asked in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sandbox.client import ADMIN, Client

from support.waiting import until

Row = dict[str, Any]
REFUSED, WORKS = 401, 200


@dataclass(frozen=True)
class Key:
    """A virtual key: the raw form its holder has, and its id."""

    raw: str
    id: str


@dataclass
class Holder:
    """A gateway account and the keys made for it."""

    user_id: str
    email: str
    keys: list[Key] = field(default_factory=list)


class Gateway(Client):
    """A sandbox client that knows what to ask about people."""

    _last_seen = 0
    admin_key = ADMIN

    @property
    def url(self) -> str:
        return self.sandbox.url

    # -- before -----------------------------------------------------------------------------------------------------

    def account(self, login: str, *keys_in: str | None, user_id: str | None = None, **fields: Any) -> Holder:
        """Seed an account with one key for every team named (None: a key of no team)."""
        email = fields.pop("user_email", f"{login}@corp.example")
        holder = Holder(user_id or f"u-{login}", email)
        self.hook("seed", {"users": [{"user_id": holder.user_id, "user_email": email, **fields}]})
        holder.keys = [self.key_of(holder.user_id, team) for team in keys_in]
        return holder

    def key_of(self, user_id: str | None, team_id: str | None = None, **fields: Any) -> Key:
        raw, key_id = self.key(user_id=user_id, team_id=team_id, **fields)
        return Key(raw, key_id)

    def seeded(self, what: Row) -> list[Key]:
        """Seed a whole company at once; return its keys in their order."""
        return [Key(row["key"], row["token"]) for row in self.hook("seed", what)["keys"]]

    def team(self, team_id: str, *members: str, **fields: Any) -> None:
        """Seed a team no configuration names, unless the test does."""
        joined = [{"team_id": team_id, "user_id": member} for member in members]
        self.hook("seed", {"teams": [{"team_id": team_id, "team_alias": team_id, **fields}], "members": joined})

    def ready(self) -> int:
        """Let every replica remember every key and forget the log; return the number of the last call until now."""
        self.hook("warm")
        log = self.log()
        self.call("DELETE", "/_sandbox/log")
        return int(log[-1]["n"]) if log else 0

    # -- behind idsync's back ---------------------------------------------------------------------------------------

    def put_on(self, team_id: str, user_id: str) -> None:
        """Somebody else puts a person on a team."""
        self.hook("act", {"member_add": {"team_id": team_id, "user_id": user_id}})

    def set_metadata(self, user_id: str, metadata: Row) -> None:
        """Somebody else writes a person's metadata."""
        self.hook("act", {"set_metadata": {"user_id": user_id, "metadata": metadata}})

    # -- while ------------------------------------------------------------------------------------------------------

    def break_with(self, path: str, **rule: Any) -> None:
        self.fault(path=path, **rule)

    def mend(self) -> None:
        self.call("DELETE", "/_sandbox/faults")

    def wait_for_first_pass(self) -> None:
        """Wait until the pass a daemon begins with has read everything."""
        until(lambda: self.calls("/v2/team/list"), "a daemon's first pass")

    def fired(self, path: str) -> int:
        """Return how often the fault on this path has acted."""
        rules = self.get("/_sandbox/faults").body["faults"]
        return sum(int(rule["fired"]) for rule in rules if rule["path"] == path)

    def wait_for_fault(self, path: str, times: int = 1) -> None:
        until(lambda: self.fired(path) >= times, f"a call of {path} that meets its fault", told=self.paths)

    def wait_for_calls(self, further: int, *, unless: Callable[[], object]) -> None:
        """Wait until it has been called so many times more, or there is no need to."""
        self._newly_called()
        calls = 0

        def enough() -> object:
            nonlocal calls
            calls += self._newly_called()
            return calls >= further or unless()

        until(enough, "some calls")

    def _newly_called(self) -> int:
        """Return how often it was called since this was last asked."""
        rows = self.log(self._last_seen)
        self._last_seen = rows[-1]["n"] if rows else self._last_seen
        return len(rows)

    def wait_for_user(self, email: str) -> None:
        until(lambda: self.users_called(email), f"{email} has an account")

    def wait_for_member(self, team_id: str, user_id: str) -> None:
        until(lambda: team_id in self.teams_with(user_id), f"{user_id} is in {team_id}")

    def wait_until_ended(self, user_id: str) -> None:
        until(lambda: not self.live_keys(user_id) and self.fenced(user_id), f"{user_id} has no keys and is fenced")

    def paths(self, since: int = 0, *, writes: bool = False) -> list[str]:
        """Return which endpoints idsync asked, in order; `writes` leaves the reads out."""
        return [
            row["path"]
            for row in self.log(since)
            if row["caller"] == "admin" and (row["method"] != "GET" or not writes)
        ]

    def calls(self, path: str, since: int = 0) -> list[Row]:
        return [row for row in self.log(since) if row["path"] == path]

    # -- after ------------------------------------------------------------------------------------------------------

    def user(self, user_id: str) -> Row | None:
        return next((row for row in self.state()["users"] if row["user_id"] == user_id), None)

    def users_called(self, email: str) -> list[Row]:
        return [row for row in self.state()["users"] if row["user_email"] == email]

    def organizations_of(self, user_id: str) -> dict[str, str]:
        """Return the organizations an account is in, with its role in each."""
        rows = (self.user(user_id) or {}).get("organization_memberships", [])
        return {row["organization_id"]: row["user_role"] for row in rows}

    def live_keys(self, user_id: str) -> list[Row]:
        return [row for row in self.state()["keys"] if row["user_id"] == user_id]

    def is_blocked(self, key: Key) -> bool:
        return any(row["token"] == key.id and row["blocked"] for row in self.state()["keys"])

    def exists(self, key: Key) -> bool:
        return any(row["token"] == key.id for row in self.state()["keys"])

    def fenced(self, user_id: str) -> bool:
        row = self.user(user_id)
        return row is not None and (row["metadata"] or {}).get("scim_active") is False

    def teams_with(self, user_id: str) -> list[str]:
        return [
            team["team_id"]
            for team in self.state()["teams"]
            if any(member["user_id"] == user_id for member in team["members_with_roles"])
        ]

    def answers(self, keys: Sequence[Key]) -> set[int]:
        """Try every key on every replica with a real request and return what was answered."""
        return {status for key in keys for status in self.tried(key.raw)}

    def assert_gone(self, holder: Holder) -> None:
        """Judge by the gateway alone: no key works anywhere, none is left, no roster has them, the fence stands."""
        assert self.live_keys(holder.user_id) == []
        assert self.answers(holder.keys) <= {REFUSED}
        assert self.teams_with(holder.user_id) == []
        assert self.user(holder.user_id) is None or self.fenced(holder.user_id)

    def assert_at_work(self, holder: Holder, *teams: str) -> None:
        """The other way round: every key works everywhere, unblocked and unfenced, and these are the teams."""
        assert self.answers(holder.keys) <= {WORKS}
        assert not self.fenced(holder.user_id)
        assert set(self.teams_with(holder.user_id)) >= set(teams)
