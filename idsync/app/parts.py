"""From the configuration to parts: rules, teams, the gateway, polled sources, schema extensions."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr

from idsync import config as configuration
from idsync.clock import Clock, end_of_day
from idsync.config import Config
from idsync.config import Sink as SinkEntry
from idsync.errors import ConfigError
from idsync.gateway.client import Gateway, GatewaySettings
from idsync.keys.due import WantedKey
from idsync.metrics import Metrics
from idsync.model import DRILL
from idsync.plan import Limits, WantedTeam
from idsync.policy import GroupSpec, Protection, Rule, Rules
from idsync.retention.pruner import Kept
from idsync.sinks.base import Sink
from idsync.sinks.command import CommandSink
from idsync.sinks.counted import Counted
from idsync.sinks.file import FileSink
from idsync.sinks.kubernetes import KubernetesSettings, KubernetesSink
from idsync.sinks.vault import AppRole, Token, VaultSettings, VaultSink
from idsync.snapshot import PolledSource
from idsync.spend.watch import Settings
from idsync.traces import UNTRACED, Tracer

if TYPE_CHECKING:
    from idsync.scim.extensions import Extension
    from idsync.sources.graph.settings import Credential

Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger(__name__)


def rules_of(config: Config) -> Rules:
    """Return the part of the configuration that decides about people."""
    names = config.source_names
    team_rules = [
        Rule("team", team.alias, tuple(GroupSpec.parse(group, names) for group in team.groups)) for team in config.teams
    ]
    admin_rules = [
        Rule("admin", team.alias, tuple(GroupSpec.parse(group, names) for group in team.admins))
        for team in config.teams
        if team.admins
    ]
    role_rules = [
        Rule("role", role.role, tuple(GroupSpec.parse(group, names) for group in role.groups)) for role in config.roles
    ]
    return Rules(
        idp_of={source.name: source.directory for source in config.every_source} | {DRILL: DRILL},
        trust_email=frozenset(source.name for source in config.every_source if config.trusts_email(source)),
        sso_idp=config.sso_idp,
        polled=config.polled,
        rules=(*team_rules, *admin_rules, *role_rules),
        admins=frozenset(role.role for role in config.roles if role.allow_admin),
        default_role=config.policy.default_role,
        departed=config.policy.departed,
        protected=tuple(
            Protection(entry.match, entry.reason, end_of_day(entry.expires) if entry.expires else None)
            for entry in config.protected
        ),
        group_loss_delete_after=config.policy.group_loss_delete_after,
        disabled_delete_after=config.policy.disabled_delete_after,
        max_push_departures=config.guard.max_push_departures,
        team_ids={team.alias: team.team_id for team in config.teams},
        rotating=frozenset(team.alias for team in config.teams if team.on_member_departure == "rotate"),
    )


def wanted_teams(config: Config) -> list[WantedTeam]:
    return [
        WantedTeam(
            alias=team.alias,
            team_id=team.team_id,
            adopt=team.adopt,
            max_budget=team.max_budget,
            soft_budget=team.soft_budget,
            budget_duration=team.budget_duration,
            models=team.models,
            tpm_limit=team.tpm_limit,
            rpm_limit=team.rpm_limit,
            metadata=team.metadata,
            drift=team.drift,
            extra_members=team.extra_members,
        )
        for team in config.teams
    ]


def wanted_keys(config: Config) -> dict[str, WantedKey]:
    """Return the shared keys of teams by alias."""
    return {
        key.alias: WantedKey(
            key.alias,
            team.alias,
            key.sink,
            key.duration,
            key.rotate_before,
            key.grace,
            key.models,
            key.max_budget,
            adopt=team.adopt,
            rotates=team.on_member_departure == "rotate",
        )
        for team in config.teams
        for key in team.keys
    }


def limits_of(config: Config) -> Limits:
    """Return what polling may take before it waits for a person."""
    guard = config.guard
    return Limits(guard.max_departures, guard.max_fraction, guard.max_team_loss)


def sources_of(
    config: Config, clock: Clock, metrics: Metrics | None = None, *, sleep: Sleep = asyncio.sleep
) -> dict[str, PolledSource]:
    """Build the polled sources; nothing is asked of them yet. Their libraries are loaded only where they are used.

    `sleep` waits between tries; tests bring one that does not.
    """
    found: dict[str, PolledSource] = {}
    for okta in config.sources.okta:
        from idsync.sources.okta.source import OktaSettings, OktaSource

        org = OktaSettings(
            name=okta.name,
            org_url=okta.org_url,
            client_id=okta.client_id,
            private_key=_secret(okta.private_key_file, okta.private_key),
            api_token=_secret(okta.api_token_file, okta.api_token),
            dpop=okta.dpop,
            app_id=okta.app_id,
            rate_share=okta.rate_share,
            ca_file=config.http.ca_file,
        )
        found[okta.name] = OktaSource(org, clock, _observer(okta.name, metrics), sleep)
    for graph in config.sources.graph:
        from idsync.sources.graph.source import GraphSettings, GraphSource

        tenant = GraphSettings(
            name=graph.name,
            tenant_id=graph.tenant_id,
            credential=_credential(graph),
            client_id=graph.client_id,
            authority=graph.authority,
            graph_url=graph.graph_url,
            app_id=graph.app_id,
            ca_file=config.http.ca_file,
        )
        found[graph.name] = GraphSource(tenant, clock, _observer(graph.name, metrics), sleep=sleep)
    return found


def _observer(name: str, metrics: Metrics | None) -> Callable[[str, str, float], None]:
    return partial(metrics.source_request, name) if metrics is not None else _unmeasured


def _unmeasured(_endpoint: str, _code: str, _seconds: float) -> None:
    """Measure nothing."""


def _secret(file: str, given: SecretStr | None) -> configuration.SecretFile | None:
    return configuration.SecretFile(file, given) if file or given is not None else None


def _credential(graph: configuration.GraphSource) -> Credential:
    from idsync.sources.graph.settings import Certificate, ClientSecret, FederatedToken, ManagedIdentity

    if graph.managed_identity:
        return ManagedIdentity(graph.client_id)
    if graph.federated_token_file:
        return FederatedToken(graph.federated_token_file)
    if graph.certificate_file:
        passphrase = _secret(graph.certificate_passphrase_file, None)
        return Certificate(graph.certificate_file, graph.certificate_key_file, passphrase)
    return ClientSecret(configuration.SecretFile(graph.client_secret_file, graph.client_secret))


def gateway_of(
    config: Config,
    clock: Clock,
    *,
    learned: dict[str, str] | None = None,
    on_learn: Callable[[str, str], None] | None = None,
    observe: Callable[[str, int | str, float], None] | None = None,
    make: Callable[..., Gateway] = Gateway,
) -> Gateway:
    """Build the gateway client; nothing is called yet."""
    more: dict[str, Any] = {"learned": learned or {}}
    if on_learn is not None:
        more["on_learn"] = on_learn
    if observe is not None:
        more["observe"] = observe
    return make(gateway_settings(config), configuration.AdminKey(config), clock, **more)


def tracer_of(config: Config, metrics: Metrics) -> Tracer:
    """Build what traces are told to, and load OpenTelemetry only where they are wanted; without it nothing is told."""
    if not config.traces.otlp_endpoint:
        return UNTRACED
    problems = configuration.trace_problems(config)
    if problems:
        log.error("traces.off", problems=[f"{path}: {what}" for path, what in problems])
        return UNTRACED
    from idsync.otlp import OtlpTracer, TraceSettings

    headers = partial(configuration.trace_headers, config.traces.headers_file)
    wanted = TraceSettings(config.traces.otlp_endpoint, headers, config.traces.sample, config.http.ca_file)
    return OtlpTracer(wanted, metrics.spans)


def watch_settings(config: Config) -> Settings:
    """Return how what leavers cost is looked at."""
    told = config.spend
    return Settings(told.watch, told.every, told.booked_within, config.routero.cache_time)


def kept_by(config: Config) -> Kept:
    """Return for how long things are kept."""
    told = config.retention
    return Kept(told.receipts, told.departures, told.spend, told.tombstones, config.spend.watch)


def webhook_of(config: Config) -> Callable[[], str]:
    """Return what reads the Slack webhook of the gateway's alerts, when it is used."""
    return partial(configuration.slack_webhook, config)


def gateway_settings(config: Config) -> GatewaySettings:
    return GatewaySettings(
        config.routero.base_url,
        config.routero.dialect,
        config.routero.organization_id,
        config.routero.timeout,
        config.routero.concurrency,
        config.http.ca_file,
    )


def store_password(config: Config) -> Callable[[], str] | None:
    """Return what reads the password of a shared store, None where there is none to give."""
    store = config.store
    if not store.password_file and store.password is None:
        return None
    return configuration.SecretFile(store.password_file, store.password)


def cursor_secret(config: Config) -> str:
    """Return what cursors are sealed with where several processes answer: they all know the admin key, nobody else does.

    Raises:
        ConfigError: the admin key cannot be read.
    """
    return hmac.new(configuration.admin_key(config).encode(), b"idsync: SCIM cursors", hashlib.sha256).hexdigest()


def start_problems(config: Config) -> list[tuple[str, str]]:
    """Return what keeps the daemon from starting: files it needs, and what is in them."""
    problems = configuration.start_problems(config)
    try:
        extensions_of(config)
    except ConfigError as error:
        problems += error.problems
    return problems


def extensions_of(config: Config) -> list[Extension]:
    """Read the schema extensions that the configuration names.

    Raises:
        ConfigError: a file cannot be read, or is no schema that can be served.
    """
    if not config.scim.extensions:
        return []
    from idsync.scim import extensions

    found: list[Extension] = []
    problems: list[tuple[str, str]] = []
    for index, entry in enumerate(config.scim.extensions):
        path = f"scim.extensions.{index}.schema_file"
        try:
            made = extensions.read(Path(entry.schema_file).read_bytes(), entry.resource)
        except OSError as error:
            problems.append((path, f"cannot read {entry.schema_file}: {error.strerror}"))
        except extensions.BadExtension as error:
            problems += [(path, what) for what in error.problems]
        else:
            if any(made.urn.lower() == other.urn.lower() for other in found):
                problems.append((path, f"{made.urn} is there twice"))
            found.append(made)
    if problems:
        raise ConfigError(problems)
    return found


def sinks_of(entries: Sequence[SinkEntry], ca_file: str = "", metrics: Metrics | None = None) -> dict[str, Sink]:
    """Build the sinks by name; nothing is asked of them yet. `ca_file` counts for those that have none of their own."""
    built = {entry.name: _sink(entry, entry.ca_file or ca_file) for entry in entries}
    return {name: Counted(sink, metrics.sink_delivery) if metrics else sink for name, sink in built.items()}


def _sink(entry: SinkEntry, ca_file: str) -> Sink:
    token = _secret(entry.token_file, entry.token)
    match entry.kind:
        case "file":
            return FileSink(entry.name, entry.path, int(entry.mode, 8))
        case "command":
            return CommandSink(entry.name, entry.command, entry.environment, entry.timeout)
        case "vault":
            vault = VaultSettings(
                entry.url, entry.mount, entry.path, entry.field, entry.namespace, ca_file, entry.timeout
            )
            secret_id = configuration.SecretFile(entry.secret_id_file, entry.secret_id)
            return VaultSink(
                entry.name, vault, Token(token) if token else AppRole(entry.role_id, secret_id, entry.auth_mount)
            )
        case "kubernetes":
            cluster = KubernetesSettings(
                entry.secret, entry.field, entry.namespace, entry.api_url, ca_file, entry.timeout
            )
            return KubernetesSink(entry.name, cluster, token)


def sink_problems(config: Config) -> list[tuple[str, str]]:
    """Return what can be seen of the sinks without asking anybody. None of it keeps the daemon from starting."""
    problems = configuration.sink_file_problems(config)
    for entry in config.sinks:
        sink = _sink(entry, "")
        if isinstance(sink, FileSink | CommandSink):
            problems += [(f"sinks.{entry.name}", what) for what in sink.problems()]
    return problems
