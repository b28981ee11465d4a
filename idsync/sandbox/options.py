"""What a sandbox is started with, and what the hooks may change while it runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

DIALECTS = ("litellm", "routero")
BROADCASTS = ("redis", "off", "all")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Options:
    """Fixed at start. Times are seconds."""

    dialect: str = "litellm"
    replicas: int = 3
    cache_ttl: float = 60.0
    broadcast: str = "redis"
    fence: bool = True
    latency: float = 0.0
    admin_key: str = "sk-admin-1234"
    host: str = "127.0.0.1"
    port: int = 0
    clock: str = "real"

    def __post_init__(self) -> None:
        _one_of("dialect", self.dialect, DIALECTS)
        _one_of("broadcast", self.broadcast, BROADCASTS)
        _one_of("clock", self.clock, ("real", "manual"))
        if self.host not in LOOPBACK:
            raise ValueError(f"the sandbox listens on loopback only, not on {self.host}")
        if self.replicas < 1:
            raise ValueError("the sandbox needs at least one replica")


@dataclass
class Settings:
    """Changed by `POST /_sandbox/options`."""

    fence: bool = True  # False: metadata.scim_active is stored and has no effect
    broadcast: str = "redis"
    cache_ttl: float = 60.0
    latency: float = 0.0
    admin_key: str = "sk-admin-1234"
    list_delay: float = 0.0  # lists show the state of so many seconds ago
    member_delete_keys: bool = True  # False: leaving a team keeps the keys of that team
    user_delete_rosters: bool = True  # False: user/delete leaves the names on the rosters
    block_supported: bool = True  # False: key/block and key/unblock are 404
    both_verbs: bool = False  # True: key/update and key/delete take POST, PUT and DELETE alike
    db_down: bool = False
    lost_updates: bool = False  # True: concurrent roster writes start from the same roster
    invite_only: bool = True  # routero: user/new makes a pending member and an invitation
    person_keys: bool | None = None  # may a person make keys; None: as the dialect does
    licence: bool = False  # litellm: organizations, admins of teams and key/regenerate work
    mints_keys: bool = False  # True: user/new makes a key, whatever auto_create_key says
    changed_by_header: bool = False  # honour litellm-changed-by

    @classmethod
    def from_options(cls, options: Options) -> Settings:
        names = ("fence", "broadcast", "cache_ttl", "latency", "admin_key")
        return cls(**{name: getattr(options, name) for name in names})

    def change(self, wanted: dict[str, Any]) -> None:
        """Take over the named settings. Raises ValueError for an unknown name or value."""
        unknown = set(wanted) - {field.name for field in fields(self)}
        if unknown:
            raise ValueError(f"unknown options: {', '.join(sorted(unknown))}")
        _one_of("broadcast", wanted.get("broadcast", self.broadcast), BROADCASTS)
        usual = Settings()
        for name, value in wanted.items():
            if not _is_like(value, getattr(usual, name)):
                raise ValueError(f"{name} cannot be {value!r}")
        for name, value in wanted.items():
            setattr(self, name, value)


def _is_like(value: Any, known: Any) -> bool:
    """Of the same type; whole numbers pass for seconds."""
    if known is None or isinstance(known, bool):
        return value is None or isinstance(value, bool)
    kinds = (int, float) if isinstance(known, float) else (type(known),)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
