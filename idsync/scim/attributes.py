"""The attributes of our schemas as a plain look-up table, so that tolerance can decide without building models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from scim2_models import Attribute as SchemaAttribute

from idsync.scim.provider import Description

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


_EXTERNAL_ID = Attribute("externalId", "string", multi=False, read_only=False, required=False)


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


def _unquoted(attributes: Iterable[Attribute]) -> Iterator[str]:
    """Name the attributes a filter compares with a bare true, false or number (RFC 7644 §3.4.2.2)."""
    for one in attributes:
        if one.type in ("boolean", "integer", "decimal"):
            yield one.name.lower()
        yield from _unquoted(one.subs.values())


class Catalogue:
    """Every attribute that is served, by schema and lower-case name (RFC 7643 §2.1)."""

    def __init__(self, description: Description) -> None:
        self._tables = {
            str(schema.id): {(one.name or "").lower(): _attribute(one) for one in schema.attributes or []}
            for schema in description.schemas
        }
        for urn in CORE.values():
            self._tables[urn] = {"externalid": _EXTERNAL_ID} | self._tables[urn]
        self._extensions: dict[str, dict[str, str]] = {"User": {ENTERPRISE.lower(): ENTERPRISE}, "Group": {}}
        for one in description.extensions:
            self._extensions[one.resource][one.urn.lower()] = one.urn
        self.unquoted = frozenset(_unquoted(one for table in self._tables.values() for one in table.values()))

    def table(self, urn: str) -> Mapping[str, Attribute]:
        """Return the attributes of a schema; those of a core schema include externalId."""
        return self._tables[urn]

    def bare(self, name: str, resource: str) -> bool:
        """Tell whether a name without its URN is an enterprise attribute: Microsoft's tutorial sends `manager` so."""
        return resource == "User" and name.lower() in self._tables[ENTERPRISE]

    def schema_of(self, urn: str, resource: str) -> str | None:
        """Return the schema a URN means for this resource, old spellings included, or None."""
        low = urn.lower()
        if low == CORE[resource].lower() or OLD_CORE.fullmatch(low):
            return CORE[resource]
        if resource == "User" and OLD_ENTERPRISE.fullmatch(low):
            return ENTERPRISE
        return self._extensions[resource].get(low)

    def target_of(self, path: str, resource: str) -> Target | Unknown | None:
        """Take a path apart and find its attribute; None when it is not a path at all."""
        match = _PATH.fullmatch(path.strip())
        if match is None:
            return None
        urn, name = match["urn"], match["attr"].lower()
        schema = self.schema_of(urn, resource) if urn else CORE[resource]
        if schema is None:
            return Unknown(path, foreign=True)
        attribute = self._tables[schema].get(name)
        if attribute is None and not urn and self.bare(name, resource):
            schema, attribute = ENTERPRISE, self._tables[ENTERPRISE][name]
        if attribute is None:
            return Unknown(path, foreign=False)
        sub = attribute.subs.get((match["sub"] or "").lower())
        if match["sub"] and sub is None:
            return Unknown(path, foreign=False)
        return Target("" if schema == CORE[resource] else schema, attribute, match["filter"] or "", sub)


@cache
def standard() -> Catalogue:
    """Return the attributes of RFC 7643 alone, without the operator's extensions."""
    return Catalogue(Description())
