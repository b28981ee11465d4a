"""Kubernetes: a field is set and the others stay, with as little permission as that takes; refusals are sentences."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from idsync.sinks.kubernetes import KubernetesSettings, KubernetesSink

from .handed import SECRET, deliver, problems, refused
from .kubernetes_standin import Cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as running:
        yield running


def sink_of(cluster: Cluster, token: str | None = None, **other: Any) -> KubernetesSink:
    plain = {"secret": "{team}-keys", "field": "{alias}", "namespace": "gateway", "api_url": cluster.url}
    settings = KubernetesSettings(**{**plain, **other})
    return KubernetesSink("pods", settings, lambda: token or cluster.token)


def test_a_secret_is_made_where_there_is_none_and_changed_where_there_is(cluster: Cluster) -> None:
    sink = sink_of(cluster)
    deliver(sink, "the-first")
    assert cluster.data("gateway/data-science-keys") == {"ds-prod": "the-first"}
    deliver(sink, "another", alias="ds-test")
    deliver(sink, SECRET)
    assert cluster.data("gateway/data-science-keys") == {"ds-prod": SECRET, "ds-test": "another"}
    assert [verb for verb, _ in cluster.asked] == ["PATCH", "POST", "PATCH", "PATCH"]


def test_looking_is_a_dry_run_of_all_that_a_delivery_does(cluster: Cluster) -> None:
    assert problems(sink_of(cluster)) == []
    assert cluster.secrets == {}
    assert [verb for verb, _ in cluster.asked] == ["PATCH", "POST"]
    assert all("dryRun=All" in address for _, address in cluster.asked)


def test_permission_to_patch_that_one_secret_is_enough(cluster: Cluster) -> None:
    cluster.put("gateway/keys", {"other": "stays"})
    cluster.patchable, cluster.may_create = {"keys"}, False
    sink = sink_of(cluster, secret="keys")
    assert problems(sink) == []
    deliver(sink)
    assert cluster.data("gateway/keys") == {"other": "stays", "ds-prod": SECRET}


def _not_patchable(cluster: Cluster) -> None:
    cluster.patchable = set()


def _absent_and_not_creatable(cluster: Cluster) -> None:
    cluster.secrets.clear()
    cluster.may_create = False


def _no_namespace(cluster: Cluster) -> None:
    cluster.secrets.clear()
    cluster.namespaces.clear()


def _immutable(cluster: Cluster) -> None:
    cluster.put("gateway/keys", {"other": "stays"}, immutable=True)


def _always(status: int) -> Callable[[Cluster], None]:
    def answer(cluster: Cluster) -> None:
        said = f"no luck with {SECRET} and {cluster.token}"
        cluster.before = lambda verb, path: (status, {"kind": "Status", "message": said})

    return answer


@pytest.mark.parametrize(
    ("bent", "other", "says"),
    [
        (_not_patchable, {}, "may not `patch` this Secret; name it in resourceNames"),
        (_absent_and_not_creatable, {}, "make it empty by hand, or allow"),
        (_no_namespace, {}, "no namespace gateway"),
        (_immutable, {}, "immutable"),
        (_always(200), {}, "answered 200"),
        (_always(302), {}, "answered 302"),
        (_always(409), {}, "somebody else changed it"),
        (_always(429), {}, "fewer calls"),
        (_always(500), {}, "no luck with ***"),
        (_always(503), {}, "not ready"),
        (lambda cluster: None, {"token": "old"}, "the token is not accepted"),
        (lambda cluster: None, {"secret": "Keys"}, "cannot be the name of a Secret"),
        (lambda cluster: None, {"field": "../{alias}"}, "cannot be a field of a Secret"),
    ],
)
def test_what_the_cluster_refuses_is_told_with_what_to_do(
    cluster: Cluster, bent: Callable[[Cluster], None], other: dict[str, Any], says: str
) -> None:
    cluster.put("gateway/keys", {"other": "stays"})
    bent(cluster)
    before = dict(cluster.secrets)
    sink = sink_of(cluster, **{"secret": "keys", **other})
    told = refused(sink), problems(sink)[0]
    assert says in told[0]
    assert says.replace("***", "") in told[1]
    assert not any(cluster.token in one for one in told)
    assert cluster.secrets == before


def test_a_secret_that_somebody_makes_meanwhile_is_patched(cluster: Cluster) -> None:
    def make(verb: str, path: str) -> None:
        if verb == "POST":
            cluster.put("gateway/keys", {"other": "stays"})

    cluster.before = make
    deliver(sink_of(cluster, secret="keys"))
    assert cluster.data("gateway/keys") == {"other": "stays", "ds-prod": SECRET}


@pytest.mark.parametrize("alias", ["../other", "a/b", "UPPER", "", "x?dryRun=All"])
def test_a_name_never_leads_to_another_object(cluster: Cluster, alias: str) -> None:
    refused(sink_of(cluster, secret="{alias}"), alias=alias)
    assert cluster.asked == []


def certified(folder: Path) -> ssl.SSLContext:
    """Return what a server of 127.0.0.1 proves itself with; ca.crt in the folder says who it is."""
    key, certificate = folder / "server.key", folder / "ca.crt"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=kubernetes"
    command += f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return tls


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_in_a_pod_all_comes_from_the_service_account_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = KubernetesSink("pods", KubernetesSettings("keys", "key", service_account=str(tmp_path)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert "runs in no pod" in refused(sink)
    (tmp_path / "namespace").write_text("gateway\n")
    (tmp_path / "token").write_text("an-old-token\n")
    assert "KUBERNETES_SERVICE_HOST is not set" in refused(sink)
    tls = certified(tmp_path)
    with Cluster(tls) as cluster:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
        assert "the token is not accepted" in refused(sink)
        (tmp_path / "token").write_text(f"{cluster.token}\n")
        deliver(sink)
        assert cluster.data("gateway/keys") == {"key": SECRET}
        certified(tmp_path)
        assert "certificate is not trusted" in refused(sink)
        (tmp_path / "ca.crt").write_text("nothing of the kind")
        assert "ca.crt cannot be read as PEM" in refused(sink)
