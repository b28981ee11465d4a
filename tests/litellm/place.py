"""A gateway of which nothing is known but addresses and the admin key: it is filled and looked at by calls alone.

The sandbox's own hooks (seeding, faults, the log of calls) are not used: whatever a test here shows of the sandbox it
shows of a LiteLLM proxy too. `make litellm` says where one is, in `IDSYNC_LITELLM` (its addresses, one a process) and
`IDSYNC_LITELLM_KEY`; without these it is a sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from sandbox.client import ADMIN, Answer, send
from support.gateway import Gateway, Holder, Key, Row

from idsync.sandbox.server import Options, Sandbox

CACHE = 0.5
"""Seconds for which the sandbox's replicas remember a key here; a proxy's are in its configuration."""
ROOT = "default_user_id"
"""Whoever the admin key is, at a LiteLLM proxy and at the sandbox: never removed."""
PAGE = 100


@dataclass(frozen=True)
class Place:
    """`doors` is where keys are tried; the first is where idsync sends its calls."""

    doors: tuple[str, ...]
    admin_key: str
    real: bool

    @property
    def url(self) -> str:
        return self.doors[0]


@contextmanager
def found() -> Iterator[Place]:
    """Return the proxy that the environment names, or a sandbox in its place."""
    if named := os.environ.get("IDSYNC_LITELLM"):
        yield Place(tuple(named.split(",")), os.environ["IDSYNC_LITELLM_KEY"], real=True)
        return
    with Sandbox(Options(dialect="litellm", replicas=2, cache_ttl=CACHE)) as sandbox:
        yield Place((sandbox.url, sandbox.replica_urls[1]), ADMIN, real=False)


class Proxy(Gateway):
    """What the tests of the engine ask a gateway and do at it, without any hook.

    Keys are tried at the first door: idsync does not wait for the caches of the others. A drill does.
    """

    _numbers = count(1)

    def __init__(self, place: Place) -> None:
        self.place = place
        self.admin_key = place.admin_key
        self._address = urlsplit(place.url).netloc
        self._made: list[Key] = []
        self.tag = f"{next(self._numbers)}-{os.getpid()}"

    @property
    def url(self) -> str:
        return self.place.url

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN,
        headers: Mapping[str, str] | None = None,
        replica: int | None = None,
        timeout: float = 30,
    ) -> Answer:
        """The admin key of the tests stands for the one of this gateway."""
        assert not path.startswith("/_sandbox/"), f"{path}: no hooks here"
        assert replica is None, "only a sandbox has replicas by number"
        key = self.admin_key if key == ADMIN else key
        return send(self._address, method, path, body, key=key, headers=headers, timeout=timeout)

    # -- before -----------------------------------------------------------------------------------------------------

    def account(self, login: str, *keys_in: str | None, user_id: str | None = None, **fields: Any) -> Holder:
        """Make an account. Its id is a new one for every test: a proxy remembers whom it knew for a minute."""
        email = fields.pop("user_email", f"{login}@corp.example")
        holder = Holder(user_id or f"u-{login}-{self.tag}", email)
        row = {"user_id": holder.user_id, "user_email": email, "user_role": "internal_user", **fields}
        self.ok("/user/new", {**row, "auto_create_key": False, "send_invite_email": False})
        holder.keys = [self.key_of(holder.user_id, team) for team in keys_in]
        return holder

    def key_of(self, user_id: str | None, team_id: str | None = None, **fields: Any) -> Key:
        row = {"user_id": user_id, "team_id": team_id, **fields}
        made = self.ok("/key/generate", {name: value for name, value in row.items() if value is not None})
        self._made.append(Key(made["key"], made["token"]))
        return self._made[-1]

    def seeded(self, what: Row) -> list[Key]:
        return [self.key_of(**row) for row in what["keys"]]

    def team(self, team_id: str, *members: str, **fields: Any) -> None:
        self.ok("/team/new", {"team_id": team_id, "team_alias": team_id, **fields})
        for member in members:
            self.put_on(team_id, member)

    def put_on(self, team_id: str, user_id: str) -> None:
        self.ok("/team/member_add", {"team_id": team_id, "member": {"user_id": user_id, "role": "user"}})

    def set_metadata(self, user_id: str, metadata: Row) -> None:
        self.ok("/user/update", {"user_id": user_id, "metadata": metadata})

    def ready(self) -> int:
        """Let the first door remember every key that works; what was called until now is not known here."""
        self.answers(self._made)
        return 0

    def empty(self) -> None:
        """Remove every key, account and team."""
        state = self.state()
        for path, name, ids in (
            ("/key/delete", "keys", [row["token"] for row in state["keys"]]),
            ("/user/delete", "user_ids", [row["user_id"] for row in state["users"] if row["user_id"] != ROOT]),
            ("/team/delete", "team_ids", [row["team_id"] for row in state["teams"]]),
        ):
            if ids:
                self.ok(path, {name: ids})

    # -- after ------------------------------------------------------------------------------------------------------

    def state(self) -> Row:
        """Return everything that can be listed."""
        return {
            "users": self._listed("/user/list", "users", "page_size"),
            "teams": self.get("/team/list").body,
            "keys": self._listed("/key/list", "keys", "size", return_full_object="true"),
        }

    def _listed(self, path: str, name: str, size: str, **query: str) -> list[Row]:
        rows: list[Row] = []
        for page in count(1):
            body = self.get(path, {"page": page, size: PAGE, **query}).body
            rows += body[name]
            if page >= body["total_pages"]:
                break
        return rows

    def user(self, user_id: str) -> Row | None:
        answer = self.get("/v2/user/info", {"user_id": user_id})
        assert answer.status in (200, 404), answer
        return answer.body if answer.status == 200 else None

    def exists(self, key: Key) -> bool:
        """Ask for a key by its id, as the listing might hide it."""
        answer = self.get("/key/info", {"key": key.id})
        assert answer.status in (200, 404), answer
        return answer.status == 200 and answer.body["info"].get("status") != "deleted"

    def tried(self, raw: str) -> list[int]:
        return [self.get("/v1/models", key=raw).status]

    def answers(self, keys: Sequence[Key]) -> set[int]:
        return {status for key in keys for status in self.tried(key.raw)}
