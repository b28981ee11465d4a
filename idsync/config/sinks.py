"""What a sink's table needs, by its kind, and what does not belong there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from idsync.config.checks import address
from idsync.config.tables import Config, Sink
from idsync.sinks.places import PLACEHOLDERS, placed, unknown_placeholders, varies

NAME = re.compile(r"[A-Za-z0-9._-]+")
SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
FIELD_NAME = re.compile(r"[-._a-zA-Z0-9]+")
NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class _Kind:
    """Keys of one kind: what each needed one is, and which others there may be."""

    needed: dict[str, str]
    also: tuple[str, ...]
    templates: tuple[str, ...]


_VAULT_LOGIN = ("token_file", "token", "role_id", "secret_id_file", "secret_id", "auth_mount")
KINDS = {
    "file": _Kind({"path": "an absolute path, like /run/keys/{alias}"}, ("mode",), ("path",)),
    "command": _Kind({"command": "a program and its arguments"}, ("environment", "timeout"), ("command",)),
    "vault": _Kind(
        {"url": "like https://vault.example.com:8200", "path": "in the engine, like teams/{team}/{alias}"},
        ("mount", "field", "namespace", *_VAULT_LOGIN, "ca_file", "timeout"),
        ("path", "field"),
    ),
    "kubernetes": _Kind(
        {"secret": "name of the Secret"},
        ("field", "namespace", "api_url", "token_file", "token", "ca_file", "timeout"),
        ("secret", "field"),
    ),
}


def sink_checks(config: Config) -> list[tuple[str, str]]:
    """Return every mistake, each with its path."""
    return [(f"sinks.{sink.name}{key and '.'}{key}", what) for sink in config.sinks for key, what in _mistakes(sink)]


def sink_varies(sink: Sink) -> bool:
    """Say whether what is delivered for one key leaves the place of another alone."""
    return varies(*(template for _, template in _templates(sink)))


def place_of(sink: Sink, alias: str, team: str | None) -> str:
    """Say where a key's secret goes: the same words for the same place.

    Raises:
        SinkFailed: the place wants a team, and the key has none.
    """
    if sink.kind == "file":
        return f"file {placed(sink.path, alias, team)}"
    if sink.kind == "command":
        return f"stdin of {' '.join(placed(argument, alias, team) for argument in sink.command)}"
    field = placed(sink.field, alias, team, str)
    if sink.kind == "vault":
        return f"{sink.url} {sink.namespace} {sink.mount}/{placed(sink.path, alias, team)}, field {field}".replace(
            "  ", " "
        )
    namespace = sink.namespace or "(idsync's own namespace)"
    return f"Secret {namespace}/{placed(sink.secret, alias, team, str)}, field {field}"


def _mistakes(sink: Sink) -> Iterator[tuple[str, str]]:
    kind = KINDS[sink.kind]
    if not NAME.fullmatch(sink.name):
        yield "name", "use letters, digits, '-', '_' and '.' only"
    for key in sorted(sink.model_fields_set - {"name", "kind", *kind.needed, *kind.also}):
        yield key, f'does not belong to kind "{sink.kind}"'
    missing = [key for key in kind.needed if not getattr(sink, key)]
    yield from ((key, f"missing; {kind.needed[key]}") for key in missing)
    for key, template in _templates(sink):
        for found in unknown_placeholders(template):
            known = " and ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            yield key, f"{found} is no placeholder; there are {known}"
    if not missing:
        yield from {"file": _file, "command": _command, "vault": _vault, "kubernetes": _kubernetes}[sink.kind](sink)


def _templates(sink: Sink) -> Iterator[tuple[str, str]]:
    for key in KINDS[sink.kind].templates:
        value = getattr(sink, key)
        yield from ((key, part) for part in ([value] if isinstance(value, str) else value))


def _file(sink: Sink) -> Iterator[tuple[str, str]]:
    path = PurePosixPath(sink.path)
    if not path.is_absolute() or ".." in path.parts or sink.path.endswith("/") or "\0" in sink.path:
        yield "path", "must be the absolute path of a file, without '..'"


def _command(sink: Sink) -> Iterator[tuple[str, str]]:
    if not sink.command[0].startswith("/") or "{" in sink.command[0]:
        yield "command", "must begin with the whole path of a program, like /usr/local/bin/put-key"
    if any("\0" in argument for argument in sink.command):
        yield "command", "an argument holds a NUL character"
    for name in sink.environment:
        if name.upper().startswith("IDSYNC_"):
            yield "environment", f"{name} is idsync's own and may be a secret; give the command its own"


def _vault(sink: Sink) -> Iterator[tuple[str, str]]:
    yield from address("url", sink.url, "")
    for key in ("mount", "path", "auth_mount"):
        parts = getattr(sink, key).split("/")
        if any(part in ("", ".", "..") for part in parts):
            yield key, "must be names with '/' between them, none before or after"
    if sink.path.startswith("data/") or f"{sink.path}/".startswith(f"{sink.mount}/data/"):
        yield "path", "leave out the mount and 'data/'; idsync adds them"
    if not (sink.mount + sink.namespace + sink.auth_mount).isprintable() or "{" in sink.mount:
        yield "mount", "mount, namespace and auth_mount are plain names"
    token, role = _given(sink, "token"), bool(sink.role_id) or _given(sink, "secret_id")
    if token == role:
        yield "", "give one credential: token_file, or role_id and secret_id_file"
    elif role and not (sink.role_id and _given(sink, "secret_id")):
        lacking = "secret_id_file" if sink.role_id else "role_id"
        yield lacking, "missing; an AppRole has role_id and secret_id_file"


def _kubernetes(sink: Sink) -> Iterator[tuple[str, str]]:
    if not SECRET_NAME.fullmatch(_filled(sink.secret)):
        yield "secret", "a Secret's name has lower case letters, digits, '-' and '.' only"
    if not FIELD_NAME.fullmatch(_filled(sink.field)):
        yield "field", "a field of a Secret has letters, digits, '-', '_' and '.' only"
    if sink.namespace and not NAMESPACE.fullmatch(sink.namespace):
        yield "namespace", "a namespace has lower case letters, digits and '-' only"
    if not sink.api_url:
        return
    yield from address("api_url", sink.api_url, "")
    if not _given(sink, "token"):
        yield "token_file", "missing; outside the cluster there is no service account"
    if not sink.namespace:
        yield "namespace", "missing; outside the cluster there is no namespace of one's own"


def _given(sink: Sink, credential: str) -> bool:
    return bool(getattr(sink, f"{credential}_file")) or getattr(sink, credential) is not None


def _filled(template: str) -> str:
    for name in PLACEHOLDERS:
        template = template.replace(f"{{{name}}}", "x")
    return template
