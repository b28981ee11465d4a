"""The evidence as one HTML page: readable, printable, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from idsync.evidence.pack import Pack
from idsync.evidence.sheets import Sheet, text
from idsync.words import count

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.2rem; margin-top: 2.5rem }
table { border-collapse: collapse; width: 100%; font-size: 0.85rem } .wide { overflow-x: auto }
th, td { border: 1px solid #999; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { background: #eee } code { font-size: 0.9em; overflow-wrap: anywhere } caption { text-align: left }
.bad { border: 3px solid #a00; padding: 0.5rem 1rem } .good { border: 3px solid #060; padding: 0.5rem 1rem }
dt { font-weight: bold } .record { border: 1px solid #999; padding: 0.5rem 1rem; margin: 0.75rem 0; break-inside: avoid }
.record dl { display: grid; grid-template-columns: minmax(10rem, max-content) 1fr; gap: 0 1rem; margin: 0; font-size: 0.85rem }
.record dd { margin: 0; overflow-wrap: anywhere } .record h3 { margin: 0 0 0.25rem; font-size: 1rem }
@media (max-width: 40rem) { .record dl { display: block } }
@page { size: A4; margin: 15mm } @media print { body { margin: 0; max-width: none; font-size: 10pt }
thead { display: table-header-group } tr { break-inside: avoid } }
"""
CONTROLS = (
    (
        "SOC 2 CC6.2",
        "access is ended when it is no longer authorised",
        "leavers: told_at, access_ended_at, verified_at",
    ),
    ("SOC 2 CC6.3", "access is changed and removed as roles change", "leavers: evidence; acts; configuration"),
    ("ISO/IEC 27001:2022 A.5.18", "access rights are removed at the end of employment", "leavers, exceptions"),
)


def as_html(pack: Pack) -> str:
    """Write the page."""
    period = pack.summary["period"]
    title = f"Ended access, {period['from']} to {period['to']}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1><p>Days in UTC, both included. From idsync's own records.</p>",
        _verdict(pack),
        _summary(pack.summary),
        _controls(),
    ]
    parts += [_records(sheet) if sheet.name == "leavers" else _table(sheet) for sheet in pack.sheets]
    return "\n".join([*parts, "</main></body></html>", ""])


def _verdict(pack: Pack) -> str:
    audit = pack.summary["audit"]
    said = f"{count(audit['entries'], 'entry', 'entries')}, head <code>{escape(audit['head'])}</code>"
    if audit["first"] > 1:
        said += f"; those before entry {audit['first']} were exported and taken out, and are not in this report"
    chain = f"The audit trail is whole: {said}."
    if not pack.chain.whole:
        chain = f"The audit trail is BROKEN at entry {audit['breaks_at']}: what is below cannot be relied on. {said}."
    left = (
        f" {count(pack.unproven, 'departure is', 'departures are')} not proven to have ended." if pack.unproven else ""
    )
    kind = "good" if pack.chain.whole and not pack.unproven else "bad"
    return f'<p class="{kind}">{chain}{left}</p>'


def _summary(summary: Mapping[str, Any]) -> str:
    rows = [(name.replace("_", " "), value) for name, value in summary["population"].items()]
    rows += [(name.replace("_", " "), value) for name, value in summary["produced"].items()]
    cells = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{_value(value)}</td></tr>' for name, value in rows)
    return f"<h2>Summary</h2><table>{cells}</table>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name.replace('_', ' ')} {text(entry)}" for name, entry in value.items())) or "none"
    return escape(text(value)) or "none"


def _controls() -> str:
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in CONTROLS)
    head = "<thead><tr><th>Control</th><th>asks</th><th>shown by</th></tr></thead>"
    return f"<h2>Controls</h2><table>{head}<tbody>{rows}</tbody></table>"


def _table(sheet: Sheet) -> str:
    head = "".join(
        f'<th scope="col" title="{escape(about)}">{escape(name.replace("_", " "))}</th>'
        for name, about in sheet.columns.items()
    )
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(text(row[name]))}</td>" for name in sheet.columns) + "</tr>"
        for row in sheet.rows
    )
    body = f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<h2>{escape(sheet.title)} ({len(sheet.rows)})</h2><p>{escape(sheet.about)}</p>{body if sheet.rows else ''}"


def _records(sheet: Sheet) -> str:
    """Write a table of many columns as one box a row, without what there is nothing to say of."""
    boxes = []
    for row in sheet.rows:
        said = [(name, text(row[name])) for name in sheet.columns if text(row[name]) and name != "user"]
        cells = "".join(f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(value)}</dd>" for name, value in said)
        boxes.append(f'<section class="record"><h3>{escape(text(row["user"]))}</h3><dl>{cells}</dl></section>')
    return f"<h2>{escape(sheet.title)} ({len(sheet.rows)})</h2><p>{escape(sheet.about)}</p>{''.join(boxes)}"
