"""`make deploy`: what is in deploy/ is tried by the tools that will read it.

hadolint reads the Dockerfile; Helm lints the chart strictly, renders it with everything off and everything on, and
refuses values that would be unsafe; promtool (Debian: prometheus) tests the alarms, systemd-analyze looks at the unit.
Of the last two, one that is not installed is named and left out. Exit code 1 when something is wrong.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy/helm/idsync"
KUBERNETES = "1.31.0"
PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "secrets": {
        "files": [
            {"variable": "IDSYNC_SOURCES__OKTA__POLL__PRIVATE_KEY_FILE", "secretName": "okta", "key": "okta.pem"},
            {"variable": "IDSYNC_SCIM__SOURCES__PUSH__TOKEN_FILE", "secretName": "idsync", "key": "token"},
        ]
    },
    "persistence": {"storageClass": "fast"},
    "service": {"annotations": {"a": "1"}},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "1"}},
    "monitoring": {"enabled": True, "serviceMonitor": True, "labels": {"release": "prometheus"}, "from": [PEER]},
    "networkPolicy": {"ingressFrom": [PEER]},
    "env": [{"name": "IDSYNC_RECONCILE__EVERY", "value": "5m"}],
    "podAnnotations": {"a": "1"},
    "podLabels": {"a": "1"},
    "nodeSelector": {"a": "1"},
    "tolerations": [{"key": "a"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}
OWN = {"existingConfigMap": "mine", "persistence": {"existingClaim": "mine"}, "networkPolicy": {"enabled": False}}
SHARED: dict[str, Any] = {
    "replicas": 3,
    "store": {
        "url": "postgresql://idsync@db.example.com:5432/idsync?sslmode=verify-full",
        "password": {"secretName": "database", "key": "password"},
    },
}
RENDERED = (
    ({}, {"ConfigMap", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service"}),
    (
        EVERYTHING,
        {"ConfigMap", "Deployment", "Ingress", "NetworkPolicy", "PersistentVolumeClaim", "Service", "ServiceMonitor"},
    ),
    (OWN, {"Deployment", "Service"}),
    (SHARED, {"ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}),
    ({**SHARED, "replicas": 1, "role": "worker"}, {"ConfigMap", "Deployment", "NetworkPolicy", "Service"}),
)
"""Values, and the kinds of what they make."""
REFUSED: tuple[dict[str, Any], ...] = (
    {"replicaCount": 2},
    {"replicas": 2},
    {**SHARED, "replicas": 0},
    {"role": "web"},
    {"store": {"url": "sqlite:////var/lib/idsync/idsync.db"}},
    {"store": {"url": "postgresql://idsync:secret@db.example.com/idsync"}},
    {"store": {"url": "postgresql://db.example.com/idsync", "password": {"secretName": "a"}}},
    {"publicUrl": "http://idsync.example.com"},
    {"trustedProxies": []},
    {"secrets": {"adminKey": {"secretName": "", "key": "k"}}},
    {"secrets": {"files": [{"variable": "PATH", "secretName": "a", "key": "b"}]}},
    {"image": {"repository": "idsync", "digest": "latest"}},
)


def chart() -> Iterator[str]:
    """Yield what is wrong with the chart."""
    loaded = helm.Chart.load(str(CHART))
    for values, kinds in RENDERED:
        yield from helm.lint(str(CHART), values, strict=True, kube_version=KUBERNETES)["errors"]
        texts = loaded.render(loaded.merge_values(values), name="prod", namespace="idsync")
        made = [
            entry
            for name, text in texts.items()
            if name.endswith(".yaml")
            for entry in yaml.safe_load_all(text)
            if entry
        ]
        if {entry["kind"] for entry in made} != kinds:
            yield f"the chart makes {sorted(entry['kind'] for entry in made)}, wanted {sorted(kinds)}"
        pod = next(entry for entry in made if entry["kind"] == "Deployment")["spec"]["template"]["spec"]
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        if mounted != {volume["name"] for volume in pod["volumes"]}:
            yield f"volumes and mounts differ: {sorted(mounted)}"
    for values in REFUSED:
        found = helm.lint(str(CHART), values, strict=True, kube_version=KUBERNETES)
        if not any(message["severity"] >= 3 for message in found["messages"]):
            yield f"the chart takes {values}"


def told(*line: str | Path) -> Iterator[str]:
    """Run a program; yield what it says when it is not content, or nothing when it is not installed."""
    if shutil.which(line[0]) is None:
        print(f"left out: {line[0]} is not installed")
        return
    done = subprocess.run(list(map(str, line)), cwd=ROOT / "deploy", capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"{' '.join(map(str, line))}\n{done.stdout}{done.stderr}"


def main() -> int:
    problems = [
        *told(
            str(Path(sys.executable).with_name("hadolint")), "--config", ROOT / ".hadolint.yaml", ROOT / "Dockerfile"
        ),
        *chart(),
        *told("promtool", "check", "rules", "alerts.yaml"),
        *told("promtool", "test", "rules", "alerts.test.yaml"),
        *told("systemd-analyze", "security", "--offline=true", "--threshold=11", "--no-pager", "idsync.service"),
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"deploy/: {len(problems)} problem(s); Helm {helm.helm_sdk_version()}, Kubernetes {KUBERNETES}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
