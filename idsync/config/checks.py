"""What only shows in the whole: names that are there twice, addresses that would show a key, roles no group can give."""

from __future__ import annotations

import difflib
import ipaddress
import re
from urllib.parse import parse_qs, urlsplit

from idsync.clock import end_of_day
from idsync.config import notifying, tracing
from idsync.config.tables import LOOPBACK, Config, GraphSource, OktaSource, ScimSource, Server
from idsync.model import DRILL, MANAGED

RESERVED = frozenset({"operator", "cli", "config", "idsync", "engine", "drill"})
SHORTEST_DRILL = 60.0
"""Seconds that have to lie between two drills."""
SHORTEST_LOOK = 60.0
"""Seconds that have to lie between two looks at what leavers cost."""
GATEWAY_ADMINS = frozenset({"proxy_admin", "proxy_admin_viewer", "org_admin"})
GATEWAY_ROLES = {"internal_user": "", "internal_user_viewer": "", "internal_viewer": "internal_user_viewer"}
"""Roles that a group may always give, each with what the gateway calls it where that is something else."""
RIGHT_ADDRESS = "give the address under which the identity provider reaches the public port"
MOST_OFTEN = 10.0
"""Seconds that have to lie between two polls of one kind."""
LONGEST_WITHOUT_FULL = 6 * 86400.0
"""Seconds after which everybody has to be listed anew."""
BUDGET_DURATION = re.compile(r"[1-9][0-9]*(s|m|h|d|w|mo)")
"""What a gateway takes for a budget's duration (LiteLLM 1.108.0, source; Routero's guide has 1mo)."""


def cross_checks(config: Config) -> list[tuple[str, str]]:
    return [
        *_check_names(config),
        *_check_urls(config),
        *_check_networks(config),
        *_check_binding(config),
        *_check_roles(config),
        *_check_teams(config),
        *_check_drill(config),
        *_check_spend(config),
        *_check_sso(config),
        *_check_polled(config),
        *notifying.problems(config, LOOPBACK),
        *tracing.problems(config, LOOPBACK),
    ]


def _check_spend(config: Config) -> list[tuple[str, str]]:
    problems = []
    if config.spend.watch and config.spend.every < SHORTEST_LOOK:
        problems.append(("spend.every", f"too often: at least {SHORTEST_LOOK:.0f} seconds"))
    alerts = config.alerts
    if alerts.budget_alerts and not alerts.slack_webhook_file and alerts.slack_webhook is None:
        problems.append(("alerts.slack_webhook_file", "missing; budget_alerts = true needs to know where they go"))
    return problems


def _check_sso(config: Config) -> list[tuple[str, str]]:
    """An SSO id is matched to one directory alone, which has to be there."""
    known, named = sorted({source.directory for source in config.every_source}), config.routero.sso_idp
    if not named or named in known:
        return []
    return [("routero.sso_idp", f"no source has the idp {named!r} (there are: {', '.join(known) or 'none'})")]


def notes(config: Config) -> list[tuple[str, str]]:
    """Return what is accepted and does less than one might think."""
    said = (
        '"rotate" is carried out for keys named in [[teams.keys]], and this team has none there; '
        "others are only shown as wanted: `idsync keys exposed`"
    )
    idle = [
        (f"teams.{team.alias}.on_member_departure", said)
        for team in config.teams
        if team.on_member_departure == "rotate" and not team.keys
    ]
    wrong = wrong_address(config.server)
    return [*([("server.public_url", f"{wrong}; {RIGHT_ADDRESS}")] if wrong else []), *idle]


def wrong_address(server: Server) -> str:
    """Say when SCIM answers and notifications would name an address where nobody can reach the public port."""
    url, parts = server.public_url, urlsplit(server.public_url)
    if "public_url" not in server.model_fields_set:
        near = not server.trusted_proxies and server.host in LOOPBACK and server.port
        return "" if near else f"missing, and SCIM answers would name {url}"
    if parts.scheme == "http" and parts.hostname in LOOPBACK and server.port and _port(url) != server.port:
        return f"{url} is not where the public port {server.port} is"
    return ""


def _port(url: str) -> int:
    try:
        return urlsplit(url).port or 80
    except ValueError:
        return -1


def expired(config: Config, now: float) -> list[tuple[str, str]]:
    """Return the protections that shield nobody any more."""
    return [
        (f"protected.{entry.match}", f"expired on {entry.expires}: shields nobody any more ({entry.reason})")
        for entry in config.protected
        if entry.expires is not None and end_of_day(entry.expires) <= now
    ]


def _check_names(config: Config) -> list[tuple[str, str]]:
    problems = []
    for path, names in (
        ("sources", [source.name for source in config.every_source]),
        ("teams", [team.alias for team in config.teams]),
        ("teams (id)", [team.team_id for team in config.teams]),
        ("roles", [role.role for role in config.roles]),
        ("sinks", [sink.name for sink in config.sinks]),
        ("notify", [entry.name for entry in config.notify]),
    ):
        problems += [(f"{path}.{name}", "named twice") for name in sorted({n for n in names if names.count(n) > 1})]
    for path, source in _sources(config):
        if source.name in RESERVED:
            problems.append((path, "a reserved name; choose another"))
        if source.idp == DRILL:
            problems.append((f"{path}.idp", "a reserved name; choose another"))
        if not source.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            problems.append((f"{path}.name", "use letters, digits, '-', '_' and '.' only"))
    return problems


def _sources(config: Config) -> list[tuple[str, ScimSource | OktaSource | GraphSource]]:
    """Return every source with its path in the file."""
    tables = (("scim.sources", config.scim.sources), ("sources.okta", config.sources.okta))
    named = [(f"{path}.{source.name}", source) for path, sources in tables for source in sources]
    return [*named, *((f"sources.graph.{source.name}", source) for source in config.sources.graph)]


def _check_polled(config: Config) -> list[tuple[str, str]]:
    problems = []
    for okta in config.sources.okta:
        path = f"sources.okta.{okta.name}"
        problems += address(f"{path}.org_url", okta.org_url, "the org's address, like https://example.okta.com")
        given = _given(okta, "private_key", "api_token")
        problems += _one_of(path, given, "private_key_file (with client_id), or api_token_file")
        if "private_key" in given and not okta.client_id:
            problems.append((f"{path}.client_id", "missing; the client id of the service app the key belongs to"))
        problems += _paces(path, okta)
        if not okta.log_every >= MOST_OFTEN:
            problems.append((f"{path}.log_every", f"at least {MOST_OFTEN:g}s: Okta allows few log requests a minute"))
    for graph in config.sources.graph:
        path = f"sources.graph.{graph.name}"
        problems += address(f"{path}.authority", graph.authority, "like https://login.microsoftonline.com")
        problems += address(f"{path}.graph_url", graph.graph_url, "like https://graph.microsoft.com")
        given = _given(graph, "client_secret", "certificate", "federated_token")
        given += ["managed_identity"] if graph.managed_identity else []
        credentials = "client_secret_file, certificate_file, federated_token_file or managed_identity = true"
        problems += _one_of(path, given, credentials)
        if not graph.managed_identity:
            missing = [name for name in ("tenant_id", "client_id") if not getattr(graph, name)]
            problems += [(f"{path}.{name}", "missing; the app registration's overview shows it") for name in missing]
        problems += _paces(path, graph)
    return problems


def _given(source: OktaSource | GraphSource, *credentials: str) -> list[str]:
    return [name for name in credentials if getattr(source, f"{name}_file") or getattr(source, name, None) is not None]


def _one_of(path: str, given: list[str], credentials: str) -> list[tuple[str, str]]:
    if len(given) == 1:
        return []
    return [(path, f"give one credential: {credentials}" + (f"; not {' and '.join(given)}" if given else ""))]


def address(path: str, url: str, like: str) -> list[tuple[str, str]]:
    if not url:
        return [(path, f"missing; {like}")]
    return [(path, what) for what in _url_problems(url)]


def _paces(path: str, source: OktaSource | GraphSource) -> list[tuple[str, str]]:
    problems = []
    if source.every < MOST_OFTEN:
        problems.append((f"{path}.every", f"at least {MOST_OFTEN:g}s: an IdP is asked by others too"))
    if not source.every <= source.full_every <= LONGEST_WITHOUT_FULL:
        problems.append((f"{path}.full_every", "between `every` and 6d: delta tokens of Graph end after 7 days"))
    return problems


def _check_urls(config: Config) -> list[tuple[str, str]]:
    problems = []
    if not config.routero.base_url:
        problems.append(("routero.base_url", "missing; the gateway's management address, like https://api.routero.ai"))
    for path, url in [("routero.base_url", config.routero.base_url), *_replicas(config)]:
        if url:
            problems += [(path, what) for what in _url_problems(url)]
    if not _is_webaddress(config.server.public_url):
        problems.append(("server.public_url", "must be the http(s) address the identity provider uses"))
    return [*problems, *store_problems(config.store.url)]


def store_problems(url: str) -> list[tuple[str, str]]:
    """Refuse an address of another kind, and one that holds a password: addresses are shown and logged."""
    try:
        parts = urlsplit(url)
        secret = parts.password or "password" in parse_qs(parts.query)
    except ValueError:
        return [("store.url", "must be sqlite:////absolute/path.db or postgresql://user@host:5432/database")]
    if parts.scheme in ("postgresql", "postgres"):
        return [("store.url", "holds a password; take it out, and put it into store.password_file")] if secret else []
    if not url.startswith("sqlite:///"):
        return [("store.url", "must be sqlite:////absolute/path.db or postgresql://user@host:5432/database")]
    return []


def _is_webaddress(url: str) -> bool:
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
        return ["plain http would show the credential to the network; only loopback may use it"]
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
    default = config.policy.default_role
    problems = [("policy.default_role", what) for what in _role_problems(default)]
    if default in GATEWAY_ADMINS:
        problems.append(("policy.default_role", f"{default} is an administrator's role; it is nobody's by default"))
    for role in config.roles:
        path = f"roles.{role.role}"
        problems += [(path, what) for what in _role_problems(role.role)]
        if role.role in GATEWAY_ADMINS and not role.allow_admin:
            what = f"{role.role} is an administrator's role; a group gives it only with allow_admin = true"
            problems.append((path, what))
        if role.role == "org_admin" and not config.routero.organization_id:
            problems.append((path, "org_admin is a role in one organization: set routero.organization_id"))
    return [*problems, *_one_role_each(config)]


def _role_problems(role: str) -> list[str]:
    known = sorted([*GATEWAY_ROLES, *GATEWAY_ADMINS])
    if role in known:
        return []
    like = difflib.get_close_matches(role.lower(), known, 1, 0.5)
    hint = f"did you mean {like[0]}?" if like else f"there are: {', '.join(known)}"
    return [f"the gateway has no role {role!r}; {hint}"]


def _one_role_each(config: Config) -> list[tuple[str, str]]:
    """A group that two entries name would get the first role alone; a role that two entries give is one entry."""
    problems: list[tuple[str, str]] = []
    for number, role in enumerate(config.roles):
        for other in config.roles[:number]:
            if role.role != other.role and _stored(role.role) == _stored(other.role):
                problems.append((f"roles.{role.role}", f"the same role as {other.role}: make one entry of the two"))
                continue
            twice = [group for group in role.groups if any(_may_be_one(config, group, one) for one in other.groups)]
            if role.role != other.role and twice:
                what = f"{', '.join(map(repr, twice))} gives {other.role} already; a group gives one role"
                problems.append((f"roles.{role.role}.groups", what))
    return problems


def _stored(role: str) -> str:
    return GATEWAY_ROLES.get(role) or role


def _may_be_one(config: Config, group: str, other: str) -> bool:
    """Tell whether two ways to name a group may mean one: a name without a source is that of any source."""
    (source, name), (its_source, its_name) = _parts(config, group), _parts(config, other)
    return name == its_name and (not source or not its_source or source == its_source)


def _parts(config: Config, group: str) -> tuple[str, str]:
    source, slash, name = group.partition("/")
    return (source, name) if slash and source in config.source_names else ("", group)


def _check_teams(config: Config) -> list[tuple[str, str]]:
    problems = []
    for team in config.teams:
        path = f"teams.{team.alias}"
        if team.budget_duration is not None and not BUDGET_DURATION.fullmatch(team.budget_duration):
            what = f"{team.budget_duration!r} is no duration of a budget; write it like 24h, 7d, 30d or 1mo"
            problems.append((f"{path}.budget_duration", what))
        if None not in (team.soft_budget, team.max_budget) and (team.soft_budget or 0) >= (team.max_budget or 0):
            problems.append((f"{path}.soft_budget", "has to be lower than max_budget, or nobody would ever be warned"))
        if MANAGED in team.metadata:
            problems.append((f"{path}.metadata.{MANAGED}", "is how idsync marks its teams; choose another key"))
        if team.extra_members == "remove" and not team.groups:
            what = '"remove" needs groups: without them no source puts anybody there, and everybody would leave'
            problems.append((f"{path}.extra_members", what))
    return problems


def _check_drill(config: Config) -> list[tuple[str, str]]:
    if 0 < config.drill.every < SHORTEST_DRILL:
        return [("drill.every", f"at least {SHORTEST_DRILL:g}s: a drill lasts about as long; empty for none")]
    return []
