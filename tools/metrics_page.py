"""docs/metrics.md: every series as idsync/metrics.py makes it, and the alarms as deploy/alerts.yaml has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
KINDS = {
    "Gauge": "gauge",
    "GaugeMetricFamily": "gauge",
    "_gauge": "gauge",
    "Counter": "counter",
    "CounterMetricFamily": "counter",
    "Histogram": "histogram",
    "HistogramMetricFamily": "histogram",
    "gauge": "gauge",
    "counter": "counter",
    "seconds": "histogram",
}

INTRODUCTION = """# Metrics

Prometheus text at `/metrics` of the operations port, without a token. What the store knows is read from it when it is
asked for, so it survives a restart; counters and histograms begin anew. Labels never carry an e-mail, a key or a group.
[Running idsync](operations.md#metrics) says more of each series.

- [deploy/alerts.yaml](../deploy/alerts.yaml): the alarms below. `promtool check rules` and, with
  [deploy/alerts.test.yaml](../deploy/alerts.test.yaml), `promtool test rules`.
- [deploy/grafana/idsync.json](../deploy/grafana/idsync.json): a dashboard; import it and choose the data source.
"""


@dataclass(frozen=True, order=True)
class Series:
    name: str
    kind: str
    labels: tuple[str, ...]
    about: str


def series(source: str) -> list[Series]:
    """Return every series that a module makes, by name; those of a loop over (name, text, value) are gauges."""
    tree = ast.parse(source)
    words = {
        node.targets[0].id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Constant)
    }  # fmt: skip
    return sorted({made for node in ast.walk(tree) for made in _made(node, words)})


def _made(node: ast.AST, words: dict[str, Any]) -> Iterator[Series]:
    arguments: list[ast.expr] = []
    kind, labels = "gauge", ()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
        arguments, kind = list(node.args), KINDS[node.func.id]
        named = [keyword.value for keyword in node.keywords if keyword.arg in ("labels", "labelnames")]
        lists = [value for value in (*arguments[2:3], *named) if isinstance(value, ast.List)]
        labels = tuple(str(entry.value) for value in lists for entry in value.elts if isinstance(entry, ast.Constant))
    elif isinstance(node, ast.Tuple):
        arguments = list(node.elts)
    if len(arguments) < 2 or not isinstance(arguments[0], ast.Constant):
        return
    name, text = str(arguments[0].value), arguments[1]
    about = text.value if isinstance(text, ast.Constant) else words.get(getattr(text, "id", ""), "")
    if name.startswith("idsync_"):
        yield Series(f"{name}_total" if kind == "counter" else name, kind, labels, str(about))


def page(made: str) -> str:
    """Return docs/metrics.md, with this comment as its first line."""
    lines = [made, "", INTRODUCTION, "## Series", "", "| series | kind | labels | what it is |", "|---|---|---|---|"]
    for entry in series((ROOT / "idsync/metrics.py").read_text("utf-8")):
        labels = ", ".join(f"`{label}`" for label in entry.labels)
        lines.append(f"| `{entry.name}` | {entry.kind} | {labels} | {entry.about} |")
    lines += ["", "## Alarms", "", "`page` is now, `ticket` is today.", ""]
    lines += ["| alarm | severity | after | what it says | what to do |", "|---|---|---|---|---|"]
    rules = yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text("utf-8"))
    for group in rules["groups"]:
        lines += [_alarm(rule) for rule in group["rules"]]
    return "\n".join(lines) + "\n"


def _alarm(rule: dict[str, Any]) -> str:
    told = rule["annotations"]
    where = told["runbook"].removeprefix("docs/")
    cells = (f"`{rule['alert']}`", rule["labels"]["severity"], rule.get("for", "at once"), told["description"])
    return f"| {' | '.join(cells)} | [{where.partition('#')[2].replace('-', ' ')}]({where}) |"
