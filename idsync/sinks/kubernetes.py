"""A field of a Kubernetes Secret. https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/secret-v1/

Patched (JSON merge patch), so that other fields stay and nothing has to be read: `patch` is all that idsync needs where
the Secret is there, `create` where it is not. The answers are asked for without their data.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idsync.errors import SinkFailed
from idsync.sinks.base import Delivery
from idsync.sinks.http import Answer, Calls, secret_of
from idsync.sinks.places import TRIAL, placed
from idsync.sinks.scrub import scrub_all

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its token, its namespace and the cluster's certificate authority."""
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
MERGE_PATCH = "application/merge-patch+json"
SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""What a Secret may be called (RFC 1123 subdomain)."""
KEY = re.compile(r"(?!\.\.?\Z)(?!\.\.)[-._a-zA-Z0-9]{1,253}")
"""What a field of a Secret may be called."""
SAID = 200


@dataclass(frozen=True)
class KubernetesSettings:
    """`secret` and `field` may hold placeholders. Without `api_url` idsync runs in the cluster, as a service account."""

    secret: str
    field: str
    namespace: str = ""
    api_url: str = ""
    ca_file: str = ""
    timeout: float = 10.0
    service_account: str = SERVICE_ACCOUNT


class KubernetesSink:
    """`token` is read anew for every delivery; None: the token of the service account, which the cluster exchanges."""

    def __init__(self, name: str, settings: KubernetesSettings, token: Callable[[], str] | None = None) -> None:
        self.name = name
        self._settings = settings
        self._token = token

    async def close(self) -> None:
        """Hold nothing open."""

    async def check(self) -> list[str]:
        """Do all that a delivery does as a dry run of the API server, which keeps nothing."""
        try:
            await self._put(TRIAL, TRIAL, TRIAL, dry_run=True)
        except SinkFailed as error:
            return [str(error)]
        return []

    async def deliver(self, delivery: Delivery) -> None:
        await self._put(delivery.alias, delivery.team, delivery.secret.get_secret_value(), dry_run=False)

    async def _put(self, alias: str, team: str | None, secret: str, *, dry_run: bool) -> None:
        settings = self._settings
        name = placed(settings.secret, alias, team, str)
        field = placed(settings.field, alias, team, str)
        if not SUBDOMAIN.fullmatch(name):
            msg = f"{name!r} cannot be the name of a Secret: lower case letters, digits, '-' and '.'; change `secret`"
            raise SinkFailed(msg)
        if not KEY.fullmatch(field):
            msg = f"{field!r} cannot be a field of a Secret: letters, digits, '-', '_' and '.'; change `field`"
            raise SinkFailed(msg)
        namespace = settings.namespace or self._own("namespace")
        headers = {"Authorization": f"Bearer {secret_of(self._token or self._own_token)}", "Accept": METADATA}
        address = settings.api_url or _address_inside()
        authorities = settings.ca_file if settings.api_url else f"{settings.service_account}/ca.crt"
        async with Calls("Kubernetes", address, timeout=settings.timeout, ca_file=authorities) as calls:
            cluster = _Cluster(calls, namespace, headers, secret, dry_run)
            await cluster.put(name, {field: base64.b64encode(secret.encode()).decode()})

    def _own_token(self) -> str:
        return self._own("token")

    def _own(self, what: str) -> str:
        """Read what the cluster tells a pod of its service account.

        Raises:
            SinkFailed: idsync runs elsewhere, or without one.
        """
        try:
            return Path(self._settings.service_account, what).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            msg = f"no {what} of a service account in {self._settings.service_account}: idsync runs in no pod, or with "
            raise SinkFailed(
                f"{msg}automountServiceAccountToken off; else set api_url, token_file, namespace"
            ) from None


def _address_inside() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SinkFailed("KUBERNETES_SERVICE_HOST is not set: idsync runs in no pod; set api_url and token_file")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


@dataclass
class _Cluster:
    """One session at the API server, in one namespace."""

    calls: Calls
    namespace: str
    headers: Mapping[str, str]
    secret: str
    dry_run: bool

    async def put(self, name: str, data: Mapping[str, str]) -> None:
        """Set fields of the Secret; make it when it is not there. Somebody may make it meanwhile, or remove it."""
        answer = await self._ask("PATCH", f"/{name}", {"data": data})
        if answer.status == 404:
            answer = await self._ask("POST", "", _new(name, data))
            if answer.status == 404:
                raise SinkFailed(f"Kubernetes has no namespace {self.namespace}; see `namespace` of the sink")
            if answer.status == 403:
                msg = f"there is no Secret {self.namespace}/{name}, and idsync may not make it; make it empty by hand, "
                raise SinkFailed(f"{msg}or allow its account `create` of secrets in {self.namespace}")
            if answer.status == 409:
                answer = await self._ask("PATCH", f"/{name}", {"data": data})
        if answer.status not in (200, 201) or answer.at("metadata", "name") != name:
            raise self._failed(answer, f"{self.namespace}/{name}")

    async def _ask(self, verb: str, path: str, body: Mapping[str, Any]) -> Answer:
        options = "fieldManager=idsync&fieldValidation=Strict" + ("&dryRun=All" if self.dry_run else "")
        return await self.calls.call(
            verb,
            f"/api/v1/namespaces/{self.namespace}/secrets{path}?{options}",
            body,
            headers=self.headers,
            content_type=MERGE_PATCH if verb == "PATCH" else "application/json",
            writes=not self.dry_run,
        )

    def _failed(self, answer: Answer, where: str) -> SinkFailed:
        """Say what an answer means, and what to do."""
        unsaid = (self.secret, self.headers["Authorization"].removeprefix("Bearer "))
        said = scrub_all(str(answer.at("message") or "no words"), unsaid, SAID)
        known = {
            401: "the token is not accepted; look at token_file, or the service account",
            403: "idsync's account may not `patch` this Secret; name it in resourceNames of a Role",
            404: "the Secret was removed meanwhile; try again",
            409: "somebody else changed it at that moment; try again",
            422: f"{said}; an immutable Secret has to be made anew",
            429: "it asks for fewer calls; try again later",
            503: "the API server is not ready; try again",
        }
        meaning = known.get(answer.status, said)
        return SinkFailed(f"Kubernetes answered {answer.status} to writing Secret {where}: {meaning}")


def _new(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "idsync"}},
        "type": "Opaque",
        "data": data,
    }
