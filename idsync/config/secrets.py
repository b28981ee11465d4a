"""Secrets come from files or the environment, and are read again when their file has changed."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from idsync.config.guarded import writable_secrets
from idsync.config.loading import ENV
from idsync.config.tables import Config
from idsync.errors import ConfigError

HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
"""A header line in printable ASCII (RFC 9110 §5.5, §5.6.2)."""
EXTRA = "opentelemetry.exporter.otlp.proto.http"
INSTALL = 'OpenTelemetry is not installed; pip install "idsync[otel]"'


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
        problems += _of("routero.admin_key_file", error)
    if not config.every_source:
        problems.append(("sources", "no source of identities is configured; nothing could ever be revoked"))
    for path, file in _secret_files(config):
        try:
            read_secret(file)
        except ConfigError as error:
            problems += _of(path, error)
    if config.http.ca_file and not Path(config.http.ca_file).is_file():
        problems.append(("http.ca_file", "no such file"))
    return [*problems, *writable_secrets(config)]


def _of(setting: str, error: ConfigError) -> list[tuple[str, str]]:
    """Return what is wrong with a file as problems of the setting that names it."""
    return [(setting, what if path == setting else f"{what} ({path})") for path, what in error.problems]


def sink_file_problems(config: Config) -> list[tuple[str, str]]:
    """Return which files of the sinks cannot be read. Nobody's access depends on them, so the daemon starts without."""
    problems: list[tuple[str, str]] = []
    for sink in config.sinks:
        for key in ("token_file", "secret_id_file"):
            try:
                if file := getattr(sink, key):
                    read_secret(file)
            except ConfigError as error:
                problems += _of(f"sinks.{sink.name}.{key}", error)
        if sink.ca_file and not Path(sink.ca_file).is_file():
            problems.append((f"sinks.{sink.name}.ca_file", "no such file"))
    return problems


def slack_webhook(config: Config) -> str:
    """Return the webhook of the gateway's alerts.

    Raises:
        ConfigError: its file cannot be read, or holds no address; the text is without it, since whoever has it can write
            to that channel.
    """
    path = "alerts.slack_webhook_file"
    try:
        webhook = SecretFile(config.alerts.slack_webhook_file, config.alerts.slack_webhook)()
    except ConfigError as error:
        raise ConfigError(_of(path, error)) from None
    if not webhook.startswith("https://") or any(character.isspace() for character in webhook):
        raise ConfigError([(path, "holds no https:// address; copy the webhook's URL from Slack")])
    return webhook


def webhook_problems(config: Config) -> list[tuple[str, str]]:
    """Return what is wrong with the webhook. Nobody's access depends on it, so the daemon starts without."""
    if not config.alerts.budget_alerts:
        return []
    try:
        slack_webhook(config)
    except ConfigError as error:
        return error.problems
    return []


def notify_problems(config: Config) -> list[tuple[str, str]]:
    """Return which secrets of receivers cannot be read. Nobody's access depends on them, so the daemon starts without."""
    secret = {"slack": "url_file", "webhook": "secret_file", "email": "password_file"}
    problems = []
    for entry in config.notify:
        try:
            if file := getattr(entry, secret[entry.kind]):
                read_secret(file)
        except ConfigError as error:
            problems += _of(f"notify.{entry.name}.{secret[entry.kind]}", error)
    return problems


def trace_headers(file: str) -> dict[str, str]:
    """Read the headers that go along with spans, one `Name: value` a line; none without a file.

    Raises:
        ConfigError: the file cannot be read, or a line is no header; the text says which, and not what is in it.
    """
    if not file:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(read_secret(file).splitlines(), 1):
        header = HEADER.fullmatch(line.strip())
        if header is None:
            raise ConfigError([(file, f"line {number} is no header; write it like Name: value")])
        found[header[1]] = header[2]
    return found


def trace_problems(config: Config) -> list[tuple[str, str]]:
    """Return what keeps traces from being sent. Nobody's access depends on them, so the daemon starts without."""
    if not config.traces.otlp_endpoint:
        return []
    try:
        trace_headers(config.traces.headers_file)
    except ConfigError as error:
        return _of("traces.headers_file", error)
    return [] if _installed() else [("traces.otlp_endpoint", INSTALL)]


def _installed() -> bool:
    try:
        return find_spec(EXTRA) is not None
    except ModuleNotFoundError:
        return False


def _secret_files(config: Config) -> list[tuple[str, str]]:
    """Return the files that hold secrets of the store and of sources, each with the path of its setting."""
    named = [("store.password_file", config.store.password_file)]
    named += [(f"scim.sources.{source.name}.token_file", source.token_file) for source in config.scim.sources]
    for okta in config.sources.okta:
        path = f"sources.okta.{okta.name}"
        named += [(f"{path}.private_key_file", okta.private_key_file), (f"{path}.api_token_file", okta.api_token_file)]
    for graph in config.sources.graph:
        path = f"sources.graph.{graph.name}"
        keys = (
            "client_secret_file",
            "certificate_file",
            "certificate_key_file",
            "certificate_passphrase_file",
            "federated_token_file",
        )
        named += [(f"{path}.{key}", getattr(graph, key)) for key in keys]
    return [(path, file) for path, file in named if file]


class SecretFile:
    """A secret of a source: from its file, read anew each time, so that a rotation needs no restart, or as it was given."""

    def __init__(self, file: str, given: SecretStr | None = None) -> None:
        self._file = file
        self._given = given

    def __call__(self) -> str:
        """Return the secret as it is now.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        if self._given is not None:
            return self._given.get_secret_value()
        return read_secret(self._file)
