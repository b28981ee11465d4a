"""Configuration: a TOML file, the environment over it, secrets from files; frozen, and every mistake told at once.

Precedence: `IDSYNC_*` in the environment, then the file, then the defaults. `origins` remembers which one it was.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from idsync.clock import parse_duration
from idsync.errors import ConfigError
from idsync.model import DRILL

ENV = "IDSYNC_"
PLACES = (Path("config.toml"), Path("/etc/idsync/config.toml"))
RESERVED = frozenset({"operator", "cli", "config", "idsync", "engine", "drill"})
LISTS_BY_NAME = {("scim", "sources"): "name", ("teams",): "alias", ("roles",): "role"}
"""Tables that are lists in the file; the environment addresses an entry by this field."""
LATER = {"sources": "polled sources are not part of this release; let the IdP push to a [[scim.sources]] entry"}
"""Tables of the documented surface that this release does not have yet, and what to do instead."""
SHORTEST_DRILL = 60.0
"""Seconds that have to lie between two drills."""
GATEWAY_ADMINS = frozenset({"proxy_admin", "proxy_admin_viewer", "org_admin"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _seconds_or_never(value: Any) -> Any:
    return 0.0 if value == "" else _seconds(value)


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, BeforeValidator(_seconds_or_never), Field(ge=0, allow_inf_nan=False)]
"""Empty, or nothing at all: never."""
Network = Annotated[str, Field(min_length=1)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Server(Table):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = "http://127.0.0.1:8080"
    ops_host: str = "127.0.0.1"
    ops_port: int = Field(default=9090, ge=0, le=65535)
    trusted_proxies: tuple[Network, ...] = ()


class Store(Table):
    url: str = "sqlite:////var/lib/idsync/idsync.db"


class Routero(Table):
    base_url: str = ""
    admin_key_file: str = ""
    admin_key: SecretStr | None = None
    dialect: Literal["routero", "litellm"] = "routero"
    organization_id: str = ""
    replica_urls: tuple[str, ...] = ()
    concurrency: int = Field(default=16, ge=1, le=256)
    timeout: Seconds = 10.0
    cache_time: Seconds = 60.0


class Http(Table):
    ca_file: str = ""


class ScimSource(Table):
    name: NonEmpty
    idp: str = ""
    token_file: str = ""
    token: SecretStr | None = None
    allow_from: tuple[Network, ...] = ()
    trust_email: bool | None = None
    strict: bool = False

    @property
    def directory(self) -> str:
        """Return the directory this source shows; sources of one directory share it."""
        return self.idp or self.name


class ScimExtension(Table):
    schema_file: NonEmpty
    resource: Literal["User", "Group"] = "User"


class Scim(Table):
    sources: tuple[ScimSource, ...] = ()
    extensions: tuple[ScimExtension, ...] = ()


class Policy(Table):
    departed: Literal["any", "all"] = "any"
    on_departure: Literal["delete", "block"] = "delete"
    disabled_delete_after: Seconds = 0.0
    group_loss_delete_after: Seconds = 600.0
    delete_user: bool = False
    default_role: NonEmpty = "internal_user"


class Guard(Table):
    """`max_push_departures` guards pushes; the others guard polled sources, which this release does not have."""

    max_departures: int = Field(default=10, ge=1)
    max_fraction: float = Field(default=0.10, gt=0, le=1)
    max_team_loss: float = Field(default=0.50, gt=0, le=1)
    max_push_departures: int = Field(default=50, ge=1)


class Reconcile(Table):
    every: Seconds = 900.0


class Drill(Table):
    every: SecondsOrNever = 0.0


class Team(Table):
    alias: NonEmpty
    id: str = ""
    adopt: bool = False
    groups: tuple[NonEmpty, ...] = ()
    max_budget: float | None = Field(default=None, ge=0)
    soft_budget: float | None = Field(default=None, ge=0)
    budget_duration: str | None = None
    models: tuple[NonEmpty, ...] | None = None
    on_member_departure: Literal["report", "rotate"] = "report"
    extra_members: Literal["report"] = "report"

    @property
    def team_id(self) -> str:
        return self.id or self.alias


class Role(Table):
    role: NonEmpty
    groups: tuple[NonEmpty, ...] = ()


class Protected(Table):
    match: NonEmpty
    reason: NonEmpty
    expires: dt.date | None = None


class Config(Table):
    """The whole configuration, valid in itself; whether its files can be read is asked by `secret_problems`."""

    server: Server = Server()
    store: Store = Store()
    routero: Routero = Routero()
    http: Http = Http()
    scim: Scim = Scim()
    policy: Policy = Policy()
    guard: Guard = Guard()
    reconcile: Reconcile = Reconcile()
    drill: Drill = Drill()
    teams: tuple[Team, ...] = ()
    roles: tuple[Role, ...] = ()
    protected: tuple[Protected, ...] = ()

    @property
    def source_names(self) -> frozenset[str]:
        return frozenset(source.name for source in self.scim.sources)

    def trusts_email(self, source: ScimSource) -> bool:
        """E-mail is trusted by default only while there is one directory to trust."""
        if source.trust_email is not None:
            return source.trust_email
        return len({other.directory for other in self.scim.sources}) == 1


@dataclass(frozen=True)
class Loaded:
    """A configuration with the file it came from and, for each key that was set, where: `file` or a variable."""

    config: Config
    path: Path | None
    origins: Mapping[str, str] = field(default_factory=dict)


# -- loading ------------------------------------------------------------------------------------------------------


def load(path: str | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read, merge and check the configuration.

    Raises:
        ConfigError: everything that is wrong with it, each problem with its path.
    """
    environ = os.environ if environ is None else environ
    file = _find(path, environ)
    tree = _read(file) if file else {}
    origins = dict.fromkeys(_leaves(tree), "file")
    problems = _secrets_in_file(tree)
    problems += _overlay(tree, environ, origins)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(problems + [_told(entry) for entry in error.errors()]) from None
    problems += _cross_checks(config)
    if problems:
        raise ConfigError(problems)
    return Loaded(config, file, origins)


def _find(path: str | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get(f"{ENV}CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigError([(named, "no such file; give another with -c or IDSYNC_CONFIG")])
        return Path(named)
    return next((place for place in PLACES if place.is_file()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([(str(path), f"not valid TOML: {error}")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), f"cannot be read: {error}")]) from None


def _leaves(tree: Any, path: str = "") -> list[str]:
    """Return the dotted path of every value in a tree; list entries by their name."""
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{path}.{key}" if path else key)]
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        return [
            leaf
            for index, entry in enumerate(tree)
            for leaf in _leaves(entry, f"{path}.{_entry_name(path, entry) or index}")
        ]
    return [path]


def _entry_name(path: str, entry: Mapping[str, Any]) -> str | None:
    name = entry.get(LISTS_BY_NAME.get(tuple(path.split(".")), "match"))
    return name if isinstance(name, str) else None


def _secrets_in_file(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Refuse secrets in the file itself: it is copied, committed and shown."""
    problems = []
    if isinstance(tree.get("routero"), dict) and "admin_key" in tree["routero"]:
        problems.append(("routero.admin_key", f"a secret; use admin_key_file, or {ENV}ROUTERO__ADMIN_KEY"))
    scim = tree.get("scim")
    sources = scim.get("sources", []) if isinstance(scim, dict) else []
    entries = sources if isinstance(sources, list) else []
    named = [entry.get("name") for entry in entries if isinstance(entry, dict) and "token" in entry]
    instead = "a secret; use token_file, or `idsync token new`"
    return problems + [(f"scim.sources.{name}.token", instead) for name in named]


def _overlay(tree: dict[str, Any], environ: Mapping[str, str], origins: dict[str, str]) -> list[tuple[str, str]]:
    """Lay `IDSYNC_A__B` over the tree; list entries are named: `IDSYNC_TEAMS__data-science__MAX_BUDGET`."""
    problems = []
    for name in sorted(environ):
        if not name.startswith(ENV) or name == f"{ENV}CONFIG":
            continue
        keys = name.removeprefix(ENV).split("__")
        problem = _place(tree, keys, environ[name], origins, name)
        if problem:
            problems.append((name, problem))
    return problems


def _place(tree: dict[str, Any], keys: list[str], value: str, origins: dict[str, str], name: str) -> str | None:
    here: Any = tree
    walked: list[str] = []
    depth = 0
    while depth < len(keys) - 1:
        key = keys[depth].lower()
        walked.append(key)
        by = LISTS_BY_NAME.get(tuple(walked))
        if by is not None:
            entry = _list_entry(here.setdefault(key, []), by, keys[depth + 1])
            if entry is None or depth + 2 >= len(keys):
                return f"names no entry of {'.'.join(walked)}"
            walked.append(str(entry[by]))
            here, depth = entry, depth + 2
            continue
        here = here.setdefault(key, {})
        if not isinstance(here, dict):
            return f"{'.'.join(walked)} is not a table"
        depth += 1
    last = keys[-1].lower()
    here[last] = _typed(value)
    origins[".".join([*walked, last])] = f"environment {name}"
    return None


def _list_entry(entries: Any, by: str, name: str) -> dict[str, Any] | None:
    """Find the entry of that name; letters, `-` and `_` are taken as the environment can spell them."""
    plain = name.lower().replace("-", "_")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and str(entry.get(by, "")).lower().replace("-", "_") == plain:
            return entry
    return None


def _typed(value: str) -> Any:
    """Read lists as TOML; everything else stays text, which the model converts."""
    if value.startswith("["):
        try:
            return tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            return value
    return value


def _told(entry: Any) -> tuple[str, str]:
    path = ".".join(str(part) for part in entry["loc"]) or "(top)"
    if entry["type"] == "extra_forbidden":
        return path, LATER.get(path, "unknown key")
    message = str(entry["msg"]).removeprefix("Value error, ")
    return path, message[:1].lower() + message[1:]


# -- what only shows in the whole ---------------------------------------------------------------------------------


def _cross_checks(config: Config) -> list[tuple[str, str]]:
    return [
        *_check_names(config),
        *_check_urls(config),
        *_check_networks(config),
        *_check_binding(config),
        *_check_roles(config),
        *_check_drill(config),
    ]


def notes(config: Config) -> list[tuple[str, str]]:
    """Return what is accepted and does not do yet what its name says."""
    said = "is written down and shown as wanted, but not carried out in this release: `idsync keys exposed`"
    return [
        (f"teams.{team.alias}.on_member_departure", f'"rotate" {said}')
        for team in config.teams
        if team.on_member_departure == "rotate"
    ]


def _check_names(config: Config) -> list[tuple[str, str]]:
    problems = []
    for path, names in (
        ("scim.sources", [source.name for source in config.scim.sources]),
        ("teams", [team.alias for team in config.teams]),
        ("teams (id)", [team.team_id for team in config.teams]),
        ("roles", [role.role for role in config.roles]),
    ):
        problems += [(f"{path}.{name}", "named twice") for name in sorted({n for n in names if names.count(n) > 1})]
    problems += [
        (f"scim.sources.{source.name}", "a reserved name; choose another")
        for source in config.scim.sources
        if source.name in RESERVED
    ]
    problems += [
        (f"scim.sources.{source.name}.idp", "a reserved name; choose another")
        for source in config.scim.sources
        if source.idp == DRILL
    ]
    problems += [
        (f"scim.sources.{source.name}.name", "use letters, digits, '-', '_' and '.' only")
        for source in config.scim.sources
        if not source.name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ]
    return problems


def _check_urls(config: Config) -> list[tuple[str, str]]:
    problems = []
    if not config.routero.base_url:
        problems.append(("routero.base_url", "missing; the gateway's management address, like https://api.routero.ai"))
    for path, url in [("routero.base_url", config.routero.base_url), *_replicas(config)]:
        if url:
            problems += [(path, what) for what in _url_problems(url)]
    if not _is_web_address(config.server.public_url):
        problems.append(("server.public_url", "must be the http(s) address the identity provider uses"))
    if not config.store.url.startswith("sqlite:///"):
        problems.append(("store.url", "must be sqlite:////absolute/path.db in this release"))
    return problems


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _replicas(config: Config) -> list[tuple[str, str]]:
    return [(f"routero.replica_urls.{index}", url) for index, url in enumerate(config.routero.replica_urls)]


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ["must be an http(s) address"]
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ["must be an http(s) address"]
    if parts.username or parts.password:
        return ["must not hold a user name or password"]
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        return ["plain http would show the admin key to the network; only loopback may use it"]
    return []


def _check_networks(config: Config) -> list[tuple[str, str]]:
    listed = [("server.trusted_proxies", config.server.trusted_proxies)]
    listed += [(f"scim.sources.{source.name}.allow_from", source.allow_from) for source in config.scim.sources]
    problems = []
    for path, networks in listed:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                problems.append((path, f"{network!r} is not an IP network like 10.0.0.0/8"))
    return problems


def _check_binding(config: Config) -> list[tuple[str, str]]:
    """A token must not cross a network in clear: a public bind needs TLS in front of it."""
    server = config.server
    if server.trusted_proxies:
        return []
    return [
        (f"server.{name}", f"{host} is reachable from outside; set server.trusted_proxies to the TLS proxy")
        for name, host in (("host", server.host), ("ops_host", server.ops_host))
        if host not in LOOPBACK
    ]


def _check_roles(config: Config) -> list[tuple[str, str]]:
    named = [("policy.default_role", config.policy.default_role)]
    named += [(f"roles.{role.role}", role.role) for role in config.roles]
    return [
        (path, f"{role} is an administrator's role; a group can never give it")
        for path, role in named
        if role in GATEWAY_ADMINS
    ]


def _check_drill(config: Config) -> list[tuple[str, str]]:
    if 0 < config.drill.every < SHORTEST_DRILL:
        return [("drill.every", f"at least {SHORTEST_DRILL:g}s: a drill lasts about as long; empty for none")]
    return []


# -- secrets ------------------------------------------------------------------------------------------------------


def read_secret(path: str) -> str:
    """Read a secret from its file; the last line break does not belong to it.

    Raises:
        ConfigError: the file cannot be read or is empty.
    """
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError([(path, f"cannot read the secret: {reason}")]) from None
    if not text:
        raise ConfigError([(path, "the secret is empty")])
    return text


class AdminKey:
    """The gateway's admin key, read again whenever its file has changed, so that a rotation needs no restart."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._seen: tuple[int, int, int] | None = None
        self._key = ""

    def __call__(self) -> str:
        """Return the key as it is now.

        Raises:
            ConfigError: none is configured, or its file cannot be read.
        """
        signature = self._signature()
        if signature is None or signature != self._seen:
            self._key = admin_key(self._config)
            self._seen = signature
        return self._key

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            now = Path(self._config.routero.admin_key_file).stat()
        except OSError:
            return None
        return now.st_mtime_ns, now.st_size, now.st_ino


def admin_key(config: Config) -> str:
    """Return the gateway's admin key.

    Raises:
        ConfigError: none is configured, or its file cannot be read.
    """
    if config.routero.admin_key is not None:
        return config.routero.admin_key.get_secret_value()
    if not config.routero.admin_key_file:
        missing = f"missing; set admin_key_file, or {ENV}ROUTERO__ADMIN_KEY in the environment"
        raise ConfigError([("routero.admin_key_file", missing)])
    return read_secret(config.routero.admin_key_file)


def start_problems(config: Config) -> list[tuple[str, str]]:
    """Return what keeps the daemon from starting although the file is well-formed: unconfigured means closed."""
    problems: list[tuple[str, str]] = []
    try:
        admin_key(config)
    except ConfigError as error:
        problems += [("routero.admin_key_file", what) for _, what in error.problems]
    if not config.scim.sources:
        problems.append(("scim.sources", "no source of identities is configured; nothing could ever be revoked"))
    for source in config.scim.sources:
        if source.token_file:
            try:
                read_secret(source.token_file)
            except ConfigError as error:
                problems += [(f"scim.sources.{source.name}.token_file", what) for _, what in error.problems]
    if config.http.ca_file and not Path(config.http.ca_file).is_file():
        problems.append(("http.ca_file", "no such file"))
    return problems


# -- showing ------------------------------------------------------------------------------------------------------


def shown(loaded: Loaded) -> list[tuple[str, str, str]]:
    """Return (key, value, origin) of every setting, secrets masked, in the order of the tables."""
    tree = loaded.config.model_dump(mode="json")
    rows = []
    for key, value in _values(tree, ""):
        secret = key.endswith((".admin_key", ".token"))
        text = ("***" if value else "") if secret else _written(value)
        rows.append((key, text, loaded.origins.get(key, "default")))
    return rows


def _values(tree: Any, path: str) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [pair for key, value in tree.items() for pair in _values(value, f"{path}.{key}" if path else key)]
    if isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree):
        return [
            pair
            for index, entry in enumerate(tree)
            for pair in _values(entry, f"{path}.{_entry_name(path, entry) or index}")
        ]
    return [(path, tree)]


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
