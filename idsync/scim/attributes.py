"""The attributes of our schemas as a plain look-up table, so that tolerance can decide without building models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from scim2_models import Attribute as SchemaAttribute

from idsync.scim.provider import schemas

CORE = {
    "User": "urn:ietf:params:scim:schemas:core:2.0:User",
    "Group": "urn:ietf:params:scim:schemas:core:2.0:Group",
}
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

OLD_CORE = re.compile(r"urn:scim:schemas:core:[12]\.0(?::(?:user|group))?", re.IGNORECASE)
"""Core schema names from before RFC 7643, which OneLogin's templates still send."""
OLD_ENTERPRISE = re.compile(r"urn:scim:schemas:extension:enterprise:[12]\.0(?::user)?", re.IGNORECASE)

_PATH = re.compile(
    r"(?:(?P<urn>urn:[^\[\]\"\s]+):)?(?P<attr>[A-Za-z$][\w$-]*)(?P<filter>\[.*\])?(?:\.(?P<sub>[\w$-]+))?",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class Attribute:
    """What a schema says of one attribute; `subs` is keyed by lower-case name (RFC 7643 §2.1)."""

    name: str
    type: str
    multi: bool
    read_only: bool
    required: bool
    subs: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A PATCH path taken apart (RFC 7644 §3.5.2). An `urn` of "" is the core schema."""

    urn: str
    attribute: Attribute
    filter: str = ""
    sub: Attribute | None = None

    @property
    def leaf(self) -> Attribute:
        """The attribute a value is written to."""
        return self.sub or self.attribute

    @property
    def plain(self) -> bool:
        """Whether the path names the attribute as a whole."""
        return not self.filter and self.sub is None

    def __str__(self) -> str:
        prefix = f"{self.urn}:" if self.urn else ""
        suffix = f".{self.sub.name}" if self.sub else ""
        return f"{prefix}{self.attribute.name}{self.filter}{suffix}"


@dataclass(frozen=True)
class Unknown:
    """A path that names nothing of ours; `foreign` when even its schema is not ours."""

    path: str
    foreign: bool


def _attribute(declared: SchemaAttribute) -> Attribute:
    name = declared.name or ""
    return Attribute(
        name=name,
        type=str(declared.type.value if declared.type else "string"),
        multi=bool(declared.multi_valued),
        read_only=str(getattr(declared.mutability, "value", "")) == "readOnly",
        required=bool(declared.required and declared.required.value),
        subs={(sub.name or "").lower(): _attribute(sub) for sub in declared.sub_attributes or []},
    )


@cache
def _tables() -> dict[str, dict[str, Attribute]]:
    tables = {
        str(schema.id): {(one.name or "").lower(): _attribute(one) for one in schema.attributes or []}
        for schema in schemas()
    }
    common = {"externalid": Attribute("externalId", "string", multi=False, read_only=False, required=False)}
    for urn in CORE.values():
        tables[urn] = common | tables[urn]
    return tables


def core(resource: str) -> Mapping[str, Attribute]:
    """Return the core attributes of `User` or `Group`, externalId included, by lower-case name."""
    return _tables()[CORE[resource]]


def enterprise() -> Mapping[str, Attribute]:
    """Return the attributes of the enterprise extension by lower-case name."""
    return _tables()[ENTERPRISE]


def schema_of(urn: str, resource: str) -> str | None:
    """Return the schema a URN means for this resource, old spellings included, or None."""
    low = urn.lower()
    if low == CORE[resource].lower() or OLD_CORE.fullmatch(low):
        return CORE[resource]
    if resource == "User" and (low == ENTERPRISE.lower() or OLD_ENTERPRISE.fullmatch(low)):
        return ENTERPRISE
    return None


def target_of(path: str, resource: str) -> Target | Unknown | None:
    """Take a path apart and find its attribute; None when it is not a path at all.

    An enterprise attribute without its URN is found as well: Microsoft's tutorial sends `manager`.
    """
    match = _PATH.fullmatch(path.strip())
    if match is None:
        return None
    urn, name = match["urn"], match["attr"].lower()
    schema = schema_of(urn, resource) if urn else CORE[resource]
    if schema is None:
        return Unknown(path, foreign=True)
    attribute = _tables()[schema].get(name)
    if attribute is None and resource == "User" and not urn:
        schema, attribute = ENTERPRISE, enterprise().get(name)
    if attribute is None:
        return Unknown(path, foreign=False)
    sub = attribute.subs.get((match["sub"] or "").lower())
    if match["sub"] and sub is None:
        return Unknown(path, foreign=False)
    return Target("" if schema == CORE[resource] else schema, attribute, match["filter"] or "", sub)
