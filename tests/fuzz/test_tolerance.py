"""Random JSON through the rules of tolerance: plain operations that the core can apply, or a refusal with a reason."""

from __future__ import annotations

import contextlib
import json
from random import Random
from typing import Any

import pytest
from scim2_models import Context, PatchOp, SCIMException

from fuzz.chance import REPLAY, dice, scaled
from fuzz.strangeness import NAMES, TEXTS, mutated, odd, written
from fuzz.test_bodies import recorded
from idsync.scim import hot, parse, tolerance
from idsync.scim.attributes import ENTERPRISE
from idsync.scim.provider import Description

pytestmark = pytest.mark.timeout(scaled(120, 3600))
CASES = scaled(2000, 200_000)
SERVED = Description()
SAMPLES: dict[str, dict[str, Any]] = {
    "User": {
        "userName": "ann", "active": True, "title": "t", "name": {"givenName": "A"},
        "emails": [{"value": "a@example.com", "type": "work", "primary": True}, {"value": "b@example.com"}],
        ENTERPRISE: {"department": "d", "manager": {"value": "m"}},
    },
    "Group": {"displayName": "g", "members": [{"value": "a", "type": "User"}, {"value": "b"}]},
}  # fmt: skip
PATHS = (
    "active", "title", "userName", "displayName", "name", "name.givenName", "emails", "emails.value", "members", "members.value",
    'emails[type eq "work"]', 'emails[type eq "work"].value', "emails[primary eq true].type", 'members[value eq "a"]',
    'members[value eq "a"].display', "members[value eq a]", "emails[type eq work].value", f"{ENTERPRISE}:manager",
    f"{ENTERPRISE}:manager.value", ENTERPRISE, "manager", "id", "meta", "groups", "schemas", "x509Certificates",
    "x509Certificates.value", "addresses[type pr].formatted", "roles", "photos.value", *NAMES,
)  # fmt: skip

SUBS = ("value", "type", "primary", "display", "$ref", "Value")
SIMPLE = ("x", "True", "False", "a", True, False, None)


def _operation(rng: Random) -> dict[str, Any]:
    operation: dict[str, Any] = {"op": rng.choice(("add", "replace", "remove", "Add", "REPLACE", "Remove"))}
    if rng.random() < 0.75:
        operation["path"] = rng.choice(PATHS)
        value = _value(rng)
    else:
        value = {rng.choice(PATHS): _value(rng) for _ in range(rng.choice((1, 2, 4)))}
    return operation if rng.random() < 0.15 else {**operation, "value": value}


def _value(rng: Random) -> Any:
    entry = {rng.choice(SUBS): odd(rng) for _ in range(rng.choice((1, 2)))}
    return rng.choice((rng.choice(SIMPLE), entry, [entry], [entry, "a"], odd(rng)))


def _patch(rng: Random) -> Any:
    message = {"schemas": ["x"], "Operations": [_operation(rng) for _ in range(rng.choice((1, 1, 2, 3)))]}
    return mutated(rng, message) if rng.random() < 0.3 else message


def _patched(document: Any, kind: str, *, strict: bool) -> None:
    """Put a PATCH through the rules, the core's reader and the core's application to a resource."""
    core: Any = SERVED.service(strict=strict)
    notes = tolerance.Notes(kind, "own-id")
    ops = (tolerance.strict_patch if strict else tolerance.patch)(document, notes)
    if not strict:
        assert all(one["op"] in ("add", "remove", "replace") and one.keys() <= {"op", "path", "value"} for one in ops)
    if not ops:
        return
    hot.group_change(ops)
    hot.active(ops)
    with core.provider:
        model = core.get_model(core.get_resource_type(kind))
        patch_op: Any = PatchOp
        message = tolerance.message(ops) if not strict else {**document, "Operations": ops}
        read = core.read_body(patch_op[model], json.dumps(message).encode(), None, Context.RESOURCE_PATCH_REQUEST)
        resource = model.model_validate(SAMPLES[kind])
        read.patch(resource)
        json.dumps(resource.model_dump(), ensure_ascii=False).encode()  # as the store writes it


def _whole(document: Any, kind: str, *, strict: bool) -> None:
    """Put a whole resource through the rules and the core's reader."""
    core: Any = SERVED.service(strict=strict)
    shaped = tolerance.resource(document, tolerance.Notes(kind, None), strict=strict)
    with core.provider:
        model = core.get_model(core.get_resource_type(kind))
        core.read_body(model, json.dumps(shaped).encode(), None, Context.RESOURCE_CREATION_REQUEST)


def _bulk(document: Any, kind: str, *, strict: bool) -> None:
    shaped, failures = tolerance.bulk(document, strict=strict)
    assert all(isinstance(error, SCIMException) for error in failures.values())
    json.dumps(shaped)


def _search(document: Any, kind: str, *, strict: bool) -> None:
    json.dumps(tolerance.search_body(document, tolerance.Notes(kind, None).catalogue, strict=strict))


BODIES = {
    _whole: [one.body for one in recorded() if one.method in ("POST", "PUT") and "Operations" not in one.body],
    _bulk: [one.body for one in recorded() if one.target == "/Bulk"],
    _search: [one.body for one in recorded() if one.target.endswith(".search")],
}


def _case(rng: Random) -> tuple[str, str | None, bool]:
    """Try one document; return it with what was wrong, and whether it was understood rather than refused."""
    kind, strict = rng.choice(("User", "Group")), rng.random() < 0.3
    way = rng.choice((_patched, _patched, _patched, _whole, _bulk, _search))
    raw = written(_patch(rng) if way is _patched else mutated(rng, rng.choice(BODIES[way])), rng)
    told = f"{way.__name__} {kind} strict={strict} {raw[:800]!r}"
    try:
        way(parse.loads(raw), kind, strict=strict)
    except SCIMException:
        return told, None, False
    except Exception as error:
        return told, f"{type(error).__name__}: {str(error)[:200]}", False
    return told, None, True


def test_any_document_is_understood_or_refused() -> None:
    wrong: dict[str, str] = {}
    understood = 0
    for number in range(CASES):
        told, complained, fine = _case(dice("tolerance", number))
        understood += fine
        if complained:
            wrong[complained[:40]] = f"case {number}: {complained}\n    {told}"
    assert not wrong, "\n".join([REPLAY, *wrong.values()])
    assert CASES // 5 < understood < CASES * 4 // 5


@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 400])
def test_a_text_in_any_place_is_understood_or_refused(text: str) -> None:
    """Put one text into every place a PATCH has for one, a path above all."""
    places: list[dict[str, Any]] = [
        {"op": text, "path": "title", "value": "x"}, {"op": "add", "path": text, "value": "x"}, {"op": "add", "value": text},
        {"op": "add", "value": {text: "x"}}, {"op": "remove", "path": f"emails[{text}]"}, {"op": "remove", "path": f"{text}.x"},
        {"op": "remove", "path": "members", "value": [text]}, {"op": "add", "path": "emails", "value": [{text: "x"}]},
        {"op": "remove", "path": f"members[value eq {json.dumps(text)}]"}, {"op": "add", "path": "active", "value": text},
        {"op": "add", "path": f"emails[type eq {json.dumps(text)}].value", "value": text},
        {"op": "add", "path": f"{ENTERPRISE}:manager", "value": text}, {"op": "add", "value": {ENTERPRISE: {text: text}}},
    ]  # fmt: skip
    for place in places:
        for kind in ("User", "Group"):
            for strict in (True, False):
                with contextlib.suppress(SCIMException):
                    _patched({"Operations": [place]}, kind, strict=strict)
