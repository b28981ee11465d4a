"""Alarms, dashboard and docs/metrics.md speak of series that exist, with labels that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.stores import url_of

from idsync.metrics import Metrics
from idsync.store.opening import store_of

from .docs_pages import ROOT, anchors, text_of

DEPLOY = ROOT / "deploy"
ROW = re.compile(r"^\| `(idsync_\w+)` \| (gauge|counter|histogram) \| (.*?) \|", re.MULTILINE)
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
ADDED = {"le", "instance", "job"}
"""Labels that Prometheus adds."""


def documented() -> dict[str, set[str]]:
    """Return the labels of every series that docs/metrics.md lists, by the names under which it is scraped."""
    page = text_of(ROOT / "docs/metrics.md")
    return {
        f"{name}{suffix}": set(re.findall(r"`(\w+)`", labels))
        for name, kind, labels in ROW.findall(page)
        for suffix in SUFFIXES[kind]
    }


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression with the file it is in."""
    for name in ("alerts.yaml", "alerts.test.yaml"):
        text = text_of(DEPLOY / name)
        for line in re.findall(r"(?:expr: |series: )(?:>-\n)?((?:.*idsync_.*\n?(?: {10}.*\n)*))", text):
            yield name, line
    board = json.loads(text_of(DEPLOY / "grafana/idsync.json"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_every_expression_names_series_and_labels_that_exist() -> None:
    known = documented()
    found = list(expressions())
    assert len(found) > 60
    for where, expression in found:
        names = re.findall(r"\bidsync_\w+", expression)
        assert names, where
        assert set(names) <= known.keys(), where
        labels = {label for name in names for label in known[name]} | ADDED
        used = re.findall(r'(\w+)=~?"', expression)
        grouped = [word for part in re.findall(r"(?:by|on) ?\(([^)]*)\)", expression) for word in part.split(", ")]
        assert {*used, *grouped} <= labels, where


def test_the_page_lists_what_a_registry_shows(tmp_path: Path) -> None:
    store = store_of(url_of(tmp_path / "idsync.db"))
    store.open()
    try:
        shown = {
            family.name
            for family in text_string_to_metric_families(Metrics(store.reader, lambda: 1.0, "", store).text().decode())
        }
    finally:
        store.close()
    listed = {name.removesuffix("_total") for name, _, _ in ROW.findall(text_of(ROOT / "docs/metrics.md"))}
    assert shown <= listed
    assert len(shown) > 15


@pytest.mark.parametrize("link", sorted(set(re.findall(r"runbook: (\S+)", text_of(DEPLOY / "alerts.yaml")))))
def test_a_runbook_is_there(link: str) -> None:
    page, _, anchor = link.partition("#")
    assert anchor in anchors(ROOT / page)


def test_the_alarms_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    for words in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")):
        done = subprocess.run([promtool, *words], cwd=DEPLOY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
