"""The tables of the configuration, frozen: what each key is, and what it is when nobody sets it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer, SecretStr

from idsync.clock import parse_duration
from idsync.model import Event
from idsync.words import duration


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _seconds_or_never(value: Any) -> Any:
    return 0.0 if value == "" else _seconds(value)


def _written_or_never(seconds: float) -> str:
    return duration(seconds) if seconds else ""


_ForPeople = PlainSerializer(duration, when_used="json")
_OrNever = PlainSerializer(_written_or_never, when_used="json")
"""`idsync config show` says a length of time as the file does."""
Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False), _ForPeople]
SecondsOrNever = Annotated[float, BeforeValidator(_seconds_or_never), Field(ge=0, allow_inf_nan=False), _OrNever]
"""Empty, or nothing at all: never."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Network = Annotated[str, Field(min_length=1)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def at_loopback(host: str, port: int) -> str:
    """Return where this machine reaches the public port, also one that listens on every address."""
    here = host if host in LOOPBACK else "127.0.0.1"
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


class Server(Table):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    public_url: str = Field(default_factory=lambda known: at_loopback(known.get("host", ""), known.get("port", 8080)))
    ops_host: str = "127.0.0.1"
    ops_port: int = Field(default=9090, ge=0, le=65535)
    trusted_proxies: tuple[Network, ...] = ()


class Store(Table):
    url: str = "sqlite:////var/lib/idsync/idsync.db"
    password_file: str = ""
    password: SecretStr | None = None


class Routero(Table):
    base_url: str = ""
    admin_key_file: str = ""
    admin_key: SecretStr | None = None
    dialect: Literal["routero", "litellm"] = "routero"
    organization_id: str = ""
    sso_idp: str = ""
    replica_urls: tuple[str, ...] = ()
    concurrency: int = Field(default=16, ge=1, le=256)
    timeout: Seconds = 10.0
    cache_time: Seconds = 60.0
    check_models: bool = True


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
    stale_after: SecondsOrNever = 7 * 86400.0

    @property
    def directory(self) -> str:
        """Return the directory this source shows; sources of one directory share it."""
        return self.idp or self.name


class PolledSource(Table):
    """What every polled source has. `every` is how often changes are asked for, `full_every` how often everybody is listed."""

    name: NonEmpty
    idp: str = ""
    trust_email: bool | None = None
    app_id: str = ""
    every: Seconds = 300.0
    full_every: Seconds = 86400.0

    @property
    def directory(self) -> str:
        """Return the directory this source shows; sources of one directory share it."""
        return self.idp or self.name


class OktaSource(PolledSource):
    org_url: str = ""
    client_id: str = ""
    private_key_file: str = ""
    private_key: SecretStr | None = None
    api_token_file: str = ""
    api_token: SecretStr | None = None
    dpop: Literal["auto", "on", "off"] = "auto"
    log_every: Seconds = 30.0
    rate_share: float = Field(default=0.5, gt=0, le=1)


class GraphSource(PolledSource):
    tenant_id: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    client_secret: SecretStr | None = None
    certificate_file: str = ""
    certificate_key_file: str = ""
    certificate_passphrase_file: str = ""
    federated_token_file: str = ""
    managed_identity: bool = False
    authority: str = "https://login.microsoftonline.com"
    graph_url: str = "https://graph.microsoft.com"


class Sources(Table):
    okta: tuple[OktaSource, ...] = ()
    graph: tuple[GraphSource, ...] = ()

    @property
    def every(self) -> tuple[OktaSource | GraphSource, ...]:
        return (*self.okta, *self.graph)


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
    """`max_push_departures` guards pushes, in 10 minutes; the others guard what polling finds, in 24 hours."""

    max_departures: int = Field(default=10, ge=1)
    max_fraction: float = Field(default=0.10, gt=0, le=1)
    max_team_loss: float = Field(default=0.50, gt=0, le=1)
    max_push_departures: int = Field(default=50, ge=1)


class Reconcile(Table):
    every: Seconds = 900.0


class Drill(Table):
    every: SecondsOrNever = 0.0


class Spend(Table):
    """Seconds. `watch` is for how long after a departure; 0: never."""

    watch: SecondsOrNever = 30 * 86400.0
    every: Seconds = 3600.0
    booked_within: Seconds = 900.0


class Retention(Table):
    """Seconds for which things are kept; 0: for ever. The trail never goes by itself: `idsync audit prune`."""

    audit: SecondsOrNever = 0.0
    receipts: SecondsOrNever = 0.0
    departures: SecondsOrNever = 0.0
    spend: SecondsOrNever = 0.0
    tombstones: SecondsOrNever = 0.0


class Alerts(Table):
    slack_webhook_file: str = ""
    slack_webhook: SecretStr | None = None
    budget_alerts: bool = False


class Traces(Table):
    """`sample` is the share of traces that is told."""

    otlp_endpoint: str = ""
    headers_file: str = ""
    sample: float = Field(default=1.0, gt=0, le=1)


class SharedKey(Table):
    """A key of a team that idsync makes, delivers and renews. Times in seconds."""

    alias: NonEmpty
    duration: Seconds = Field(default=90 * 86400.0, gt=0)
    rotate_before: Seconds = 14 * 86400.0
    grace: Seconds = 0.0
    models: tuple[NonEmpty, ...] = ()
    max_budget: float | None = Field(default=None, ge=0)
    sink: NonEmpty


class Team(Table):
    alias: NonEmpty
    id: str = ""
    adopt: bool = False
    groups: tuple[NonEmpty, ...] = ()
    admins: tuple[NonEmpty, ...] = ()
    max_budget: float | None = Field(default=None, ge=0)
    soft_budget: float | None = Field(default=None, ge=0)
    budget_duration: str | None = None
    models: tuple[NonEmpty, ...] | None = None
    tpm_limit: int | None = Field(default=None, ge=0)
    rpm_limit: int | None = Field(default=None, ge=0)
    metadata: dict[NonEmpty, JsonValue] = {}
    drift: Literal["restore", "report"] = "restore"
    on_member_departure: Literal["report", "rotate"] = "report"
    extra_members: Literal["report", "remove"] = "report"
    keys: tuple[SharedKey, ...] = ()

    @property
    def team_id(self) -> str:
        return self.id or self.alias


class Sink(Table):
    """A place that new secrets are delivered to; which keys belong to which kind is in `config/sinks.py`."""

    name: NonEmpty
    kind: Literal["file", "command", "vault", "kubernetes"]
    path: str = ""
    mode: Literal["0600", "0640"] = "0600"
    command: tuple[NonEmpty, ...] = ()
    environment: tuple[NonEmpty, ...] = ()
    url: str = ""
    mount: NonEmpty = "secret"
    field: NonEmpty = "key"
    namespace: str = ""
    token_file: str = ""
    token: SecretStr | None = None
    role_id: str = ""
    secret_id_file: str = ""
    secret_id: SecretStr | None = None
    auth_mount: NonEmpty = "approle"
    secret: str = ""
    api_url: str = ""
    ca_file: str = ""
    timeout: Seconds = Field(default=10.0, gt=0)


class Role(Table):
    role: NonEmpty
    groups: tuple[NonEmpty, ...] = ()
    allow_admin: bool = False


class Protected(Table):
    match: NonEmpty
    reason: NonEmpty
    expires: dt.date | None = None


class Notify(Table):
    """Somebody to tell; which keys belong to which kind is in `config/notifying.py`. `events` empty: all."""

    name: NonEmpty
    kind: Literal["slack", "webhook", "email"]
    events: tuple[Event, ...] = ()
    url_file: str = ""
    url: str = ""
    secret_file: str = ""
    allow_private: bool = False
    host: str = ""
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password_file: str = ""
    sender: str = ""
    to: tuple[NonEmpty, ...] = ()
    timeout: Seconds = Field(default=10.0, gt=0, le=60)


class Config(Table):
    """The whole configuration, valid in itself; whether its files can be read is asked by `secret_problems`."""

    server: Server = Server()
    store: Store = Store()
    routero: Routero = Routero()
    http: Http = Http()
    scim: Scim = Scim()
    sources: Sources = Sources()
    policy: Policy = Policy()
    guard: Guard = Guard()
    reconcile: Reconcile = Reconcile()
    drill: Drill = Drill()
    spend: Spend = Spend()
    retention: Retention = Retention()
    alerts: Alerts = Alerts()
    traces: Traces = Traces()
    teams: tuple[Team, ...] = ()
    roles: tuple[Role, ...] = ()
    sinks: tuple[Sink, ...] = ()
    protected: tuple[Protected, ...] = ()
    notify: tuple[Notify, ...] = ()

    @property
    def every_source(self) -> tuple[ScimSource | OktaSource | GraphSource, ...]:
        """Return pushed and polled sources: their names share one namespace."""
        return (*self.scim.sources, *self.sources.every)

    @property
    def source_names(self) -> frozenset[str]:
        return frozenset(source.name for source in self.every_source)

    @property
    def polled(self) -> dict[str, str]:
        """Return the polled sources, and which kind of IdP each is."""
        kinds = {source.name: "okta" for source in self.sources.okta}
        return kinds | {source.name: "graph" for source in self.sources.graph}

    def trusts_email(self, source: ScimSource | PolledSource) -> bool:
        """E-mail is trusted by default only while there is one directory to trust."""
        if source.trust_email is not None:
            return source.trust_email
        return len({other.directory for other in self.every_source}) == 1

    @property
    def sso_idp(self) -> str | None:
        """The directory whose external ids the gateway has as SSO ids; None: there are several, and nobody has said."""
        directories = {source.directory for source in self.every_source}
        return self.routero.sso_idp or (directories.pop() if len(directories) == 1 else None)
