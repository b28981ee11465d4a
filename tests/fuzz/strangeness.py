"""What a hostile or broken client makes of a JSON document: on its tree, on its text and on its bytes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

RAW = {
    "NaN": "NaN",
    "minus infinity": "-Infinity",
    "too large a number": "1e999",
    "64 bits": "9223372036854775808",
    "five thousand digits": "9" * 5000,
    "half a pair": '"\\ud800"',
    "the other half": '"x\\udfff"',
    "NUL": '"a\\u0000b"',
    "thirty levels": "[" * 30 + "]" * 30,
    "fifty levels": '{"a":' * 50 + "1" + "}" * 50,
    "a hundred thousand levels": "[" * 100_000 + "]" * 100_000,
    "a raw line break": '"a\nb"',
    "a comment": "/* */ 1",
    "nothing at all": "",
    "a name twice": '{"value":"a","value":"b"}',
    "a name twice in another case": '{"value":"a","Value":"b"}',
}
"""JSON that no encoder writes; a marker stands for it in a tree until the tree is written."""
MARKER = "raw-json-{}-raw-json"
TEXTS = (
    "", " ", "\t\r\n", "a", "true", "False", "no", "null", "0", "1", "-1", "é", "e\u0301", "İ", "ß", "\u212a", "\u202eabc",
    "\u200b", "\ufeff", "\ufffd", "😀", "日本", "%", "_", "\\", "'", '"', "' OR 1=1 --", '"); DROP TABLE users; --',
    "{0}", "%s%n", "${7*7}", "../../etc/passwd", "\r\nX-Injected: yes", "\x1b[31m", "\x7f", "a" * 300, "é" * 3000,
    "x" * 100_000, "[" * 5000, '{"value": "a"}', '[{"value": "a"}]', '{"value": "\\ud800"}', "userName eq x",
    "urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    "bulkId:a", "2026-01-01T00:00:00Z", "2026-99-99", "https://idsync.example/scim/v2/Users/x", "00000000-0000-0000",
)  # fmt: skip
NAMES = (
    "", "id", "ID", "meta", "schemas", "Schemas", "groups", "members", "userName", "username", "displayName", "active",
    "Active", "emails", "externalId", "name", "password", "value", "$ref", "type", "primary", "op", "path", "Path",
    "Operations", "operations", "__proto__", "constructor", "__init__", "model_config", "a b", "é", "İd", "ſchemas",
    "\u202e", "😀", "a.b.c", "name.givenName", "name.", ".name", "emails[", 'emails[type eq "work"].value',
    'emails[type eq "\\ud800"].value', "emails[not (type pr)].value", "members[value eq", "x" * 5000, "urn:", "urn:a:b",
    "urn:ietf:params:scim:schemas:core:2.0:User", "urn:ietf:params:scim:schemas:core:2.0:Group",
    "urn:ietf:params:scim:schemas:core:2.0:User:active", "urn:scim:schemas:core:1.0", "manager", "department",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager", "$ref.value", "-", "\\", '"', "a:b",
)  # fmt: skip
_PLAIN: tuple[Any, ...] = (None, True, False, 0, 1, -1, 2**63 - 1, 0.5, 1e308, [], {}, [[]], [{}], [None], {"": ""})


def odd(rng: Random) -> Any:
    """Return a value hardly anybody expects."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(TEXTS)
    if kind < 0.7:
        return copy.deepcopy(rng.choice(_PLAIN))
    if kind < 0.85:
        return MARKER.format(rng.choice(list(RAW)))
    return rng.choice(({rng.choice(NAMES): rng.choice(TEXTS)}, [rng.choice(TEXTS), rng.choice(_PLAIN)]))


# -- the tree ----------------------------------------------------------------------------------------------------


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Return every place of a tree as its container and the key or index in it."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        one = waiting.pop()
        inner = list(one.items()) if isinstance(one, dict) else list(enumerate(one))
        found += [(one, key) for key, _ in inner]
        waiting += [value for _, value in inner if isinstance(value, dict | list)]
    return found


def _swap(rng: Random, value: Any) -> Any:
    return odd(rng)


def _retype(rng: Random, value: Any) -> Any:
    """Say the same as another type."""
    if isinstance(value, bool | int | float) or value is None:
        return rng.choice((str(value), [value], {"value": value}))
    if isinstance(value, str):
        return rng.choice((len(value), [value], {"value": value}, value == "", list(value[:5]), value.encode().hex()))
    inner = list(value.values()) if isinstance(value, dict) else value
    numbered = {str(number): one for number, one in enumerate(inner)}
    return rng.choice((inner[0] if inner else None, inner, numbered, json.dumps(value), [value]))


def _nest(rng: Random, value: Any) -> Any:
    for _ in range(rng.choice((1, 2, 28, 33, 200))):
        value = [value] if rng.random() < 0.5 else {rng.choice(NAMES): value}
    return value


def _retext(rng: Random, value: Any) -> Any:
    if not isinstance(value, str):
        return odd(rng)
    at = rng.randrange(len(value) + 1)
    return rng.choice((value[:at] + rng.choice(TEXTS) + value[at:], value.upper(), value[:at], value * 3, f" {value}"))


LARGEST = 1 << 20
"""Bytes: no endpoint reads a larger body, and repeated repetitions fill the memory of whoever makes it."""


def _repeat(rng: Random, value: Any) -> Any:
    many = rng.choice((2, 3, 50)) if isinstance(value, list) else rng.choice((2, 50, 1001))
    times = max(1, min(many, LARGEST // len(json.dumps(value))))
    if isinstance(value, list):
        return [copy.deepcopy(one) for _ in range(times) for one in value]
    return [value] * times


_EDITS: tuple[Callable[[Random, Any], Any], ...] = (_swap, _swap, _retype, _nest, _retext, _repeat)


def mutated(rng: Random, document: Any) -> Any:
    """Return a copy with a few places changed, removed, renamed, doubled or nested."""
    root = [copy.deepcopy(document)]
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        places = _places(root)
        holder, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.15 and holder is not root:
            del holder[key]
        elif kind < 0.35 and isinstance(holder, dict):
            name = rng.choice((*NAMES, key.upper(), key.swapcase(), f"{key} ", MARKER.format("half a pair")))
            holder[name] = holder.pop(key) if rng.random() < 0.6 else copy.deepcopy(holder[key])
        else:
            holder[key] = rng.choice(_EDITS)(rng, holder[key])
    return root[0] if root else None


# -- the text and the bytes ----------------------------------------------------------------------------------------


def written(document: Any, rng: Random) -> bytes:
    """Write a tree as JSON, markers as what they stand for, non-ASCII text in one of its two forms."""
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    for name, raw in RAW.items():
        text = text.replace(json.dumps(MARKER.format(name)), raw)
    return text.encode()


def _twice(rng: Random, raw: bytes) -> bytes:
    """Give a name twice in an object."""
    names = list(re.finditer(rb'"\w+"\s*:', raw))
    if not names:
        return raw
    name = rng.choice(names)
    other = name[0].upper() if rng.random() < 0.3 else name[0]
    return raw[: name.start()] + other + rng.choice((b"1,", b"null,", b'"x",')) + raw[name.start() :]


def _flip(rng: Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: Random, raw: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(raw)), rng.randrange(len(raw))))
    return rng.choice((raw[:start], raw[end:], raw[:start] + raw[end:]))


def _double(rng: Random, raw: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(raw)), rng.randrange(len(raw))))
    return rng.choice((raw[:end] + raw[start:], raw + raw, raw[:end] * 3 + raw[end:]))


_JUNK = (b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud83d", b"\\", b'"', b"{", b"]", b",")


def _insert(rng: Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + rng.choice((*_JUNK, rng.randbytes(20))) + raw[at:]


def _recode(rng: Random, raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7")), "replace")


def _pad(rng: Random, raw: bytes) -> bytes:
    return rng.choice((b" " * 10_000 + raw, raw + b"\n" * 10_000, raw + b"x", b")]}',\n" + raw, b"", b"null"))


_DAMAGES = (_twice, _twice, _flip, _flip, _cut, _double, _insert, _recode, _pad)


def damaged(rng: Random, raw: bytes) -> bytes:
    """Return bytes that were JSON before something happened to them."""
    return rng.choice(_DAMAGES)(rng, raw) if raw else raw
