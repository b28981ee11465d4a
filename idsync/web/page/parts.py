"""The components, as /health has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsync.clock import epoch_of
from idsync.web.page.frame import Draw, Look, Page, badge, section, table
from idsync.web.page.html import many, named, tag
from idsync.web.page.words import length, moment

KINDS = {"ok": "good", "unknown": "note", "degraded": "warn", "failed": "bad"}


def page(found: Mapping[str, Any]) -> Draw:
    """Return how /health is drawn, once it was asked."""

    def draw(_: Look) -> Page:
        rows = [
            (
                named(part["name"]),
                badge(KINDS[part["state"]], part["state"]),
                named(part["detail"]),
                "–" if part["age_seconds"] is None else f"{length(part['age_seconds'])} ago",
            )
            for part in found["components"]
        ]
        state = badge(KINDS[found["state"]], found["state"])
        about = tag(
            "p",
            state,
            f" idsync {found['version']}, running since ",
            moment(epoch_of(found["started_at"]) or 0.0),
            ". For programs: ",
            tag("code", "/health"),
            ".",
        )
        listed = section(
            "Components", table("Components", ("Part", "State", "What", "Last seen"), rows), id="components"
        )
        return Page("Health", many(tag("h1", "Health"), about, listed), "/components")

    return draw
