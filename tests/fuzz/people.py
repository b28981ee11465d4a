"""Directories full of awkward people: quotes, wildcards, letters whose case is odd, and much that is missing."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.filters import ENTERPRISE
from fuzz.server import Wire

TEXTS = (
    "", "ann", "ANN", "Ann", "an", "bob", "Émile", "émile", "e\u0301mile", "EMILE", "Straße", "STRASSE", "strasse",
    "İstanbul", "istanbul", "ıstanbul", "\u212aelvin", "kelvin", "KELVIN", "ſmith", "smith", "ﬁnn", "finn", "ΣΊΣΥΦΟΣ", "σίσυφος",
    "50% off", "50", "%", "_", "a_b", "axb", "a%b", "\\", "a\\b", "\\%", "O'Brien", "'", "''", '"', 'a "quoted" b', "' OR 1=1 --",
    "a eq b", "x and y", ") or (", "[a]", "日本", "😀", "a b", " a", "a ", "a\tb", "a\nb", "é", "É", "e", "null", "true", "1", "?&",
)  # fmt: skip
TYPES = ("work", "home", "WORK", "other")


def _maybe(rng: Random, chance: float, **fields: Any) -> dict[str, Any]:
    return fields if rng.random() < chance else {}


def _addresses(rng: Random, kind: str) -> list[dict[str, Any]]:
    """Return up to four entries, at most one of them primary, some without a type, a value or a word on primary."""
    entries = []
    for number in range(rng.choice((0, 1, 1, 2, 2, 3, 4))):
        value = rng.choice(TEXTS) if kind == "phoneNumbers" else f"{rng.choice(TEXTS)}@example.com"
        entry = _maybe(rng, 0.95, value=value) | _maybe(rng, 0.7, type=rng.choice(TYPES))
        entry |= _maybe(rng, 0.2, display=rng.choice(TEXTS)) | _maybe(rng, 0.2, primary=False)
        entries.append(entry or {"type": f"t{number}"})
    if entries and rng.random() < 0.6:
        rng.choice(entries)["primary"] = True
    return entries


def a_user(rng: Random, number: int) -> dict[str, Any]:
    name = _maybe(rng, 0.6, givenName=rng.choice(TEXTS)) | _maybe(rng, 0.6, familyName=rng.choice(TEXTS))
    work = _maybe(rng, 0.5, department=rng.choice(TEXTS)) | _maybe(rng, 0.3, manager={"value": rng.choice(TEXTS)})
    user: dict[str, Any] = {
        "userName": f"{rng.choice(TEXTS)}{number}" if rng.random() < 0.8 else f"{number}-{rng.choice(TEXTS)}"
    }
    user |= _maybe(rng, 0.7, displayName=rng.choice(TEXTS)) | _maybe(rng, 0.5, title=rng.choice(TEXTS))
    user |= _maybe(rng, 0.3, nickName=rng.choice(TEXTS)) | _maybe(rng, 0.6, externalId=rng.choice(TEXTS))
    user |= _maybe(rng, 0.2, locale=rng.choice(("en-US", "de-DE", "DE-de")))
    user |= _maybe(rng, 0.4, phoneNumbers=_addresses(rng, "phoneNumbers")) | _maybe(rng, bool(name), name=name)
    more: dict[str, Any] = {"active": rng.random() < 0.7, "emails": _addresses(rng, "emails")}
    return user | more | _maybe(rng, bool(work), **{ENTERPRISE: work})


def populate(rng: Random, client: Wire, users: int, groups: int) -> None:
    """Make users and groups; groups hold some of both, some nobody."""
    made = []
    for number in range(users):
        user = a_user(rng, number)
        schemas = ["urn:ietf:params:scim:schemas:core:2.0:User", *(key for key in user if key == ENTERPRISE)]
        got = client.send("POST", "/Users", {"schemas": schemas, **user})
        assert got.status == 201, got.raw
        made.append(got.json["id"])
    for number in range(groups):
        members = [{"value": one} for one in rng.sample(made, rng.choice((0, 1, 2, 5)))]
        group = {"displayName": f"{rng.choice(TEXTS)}{number}", "members": members}
        group |= _maybe(rng, 0.6, externalId=rng.choice(TEXTS))
        got = client.send("POST", "/Groups", {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], **group})
        assert got.status == 201, got.raw
        made.append(got.json["id"])
