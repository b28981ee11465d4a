"""A table of the evidence: its columns, what each one says, and its rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idsync.logs import mask

FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
"""What makes a spreadsheet take a cell for a formula (owasp.org/www-community/attacks/CSV_Injection)."""


@dataclass(frozen=True)
class Sheet:
    """`columns` says of each column what it means; a row has a value for each, None: nothing to say."""

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, Any]]


def text(value: Any) -> str:
    """Write a value of a cell; what looks like a secret is masked, control characters are written as escapes."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return "; ".join(text(entry) for entry in value)
    return mask(str(value))


def as_csv(sheet: Sheet) -> str:
    """Write a table as CSV (RFC 4180) that no spreadsheet runs: a cell that begins like a formula gets an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(sheet.columns)
    for row in sheet.rows:
        writer.writerow([_harmless(text(row[column])) for column in sheet.columns])
    return out.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.lstrip(" ")[:1] in FORMULA and cell.strip() else cell
