"""The status page over HTTP: who sees what, who may decide, and that what is decided happens at the gateway."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
from support.directory import mail
from support.stores import SHARED

from idsync.clock import ManualClock
from idsync.errors import SourceUnreachable
from idsync.model import Observation
from idsync.store import facts, ledger, notices, people, spend, teamkeys
from idsync.store.teamkeys import TeamKey
from idsync.web.auth import Tokens
from idsync.web.page.html import Markup, tag
from idsync.web.page.session import IDLE, LONGEST, Sessions, cookie, is_from_here
from page.conftest import Scene
from page.served import Seen, Visitor

PATHS = ("/", "/departures", "/holds", "/jobs", "/keys", "/conflicts", "/components")
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'"
)
NAMES = (mail("leo"), mail("ann"), "poll", "data")


def pages_of(scene: Scene, visitor: Visitor) -> Iterator[tuple[str, Seen]]:
    """Yield every page there is, once somebody has left."""
    departures = [f"/departures/{one.id}" for one in ledger.departures(scene.served.home.db)]
    checksum = ledger.checksum(ledger.items(scene.served.home.db, scene.hold.id))
    asked = [f"{scene.path}/{what}?checksum={checksum}" for what in ("approve", "reject")]
    for path in (*PATHS, scene.path, *asked, *departures, "/departures?user=leo", "/departures?page=7"):
        yield path, visitor.get(path)


def test_without_a_token_nobody_gets_in_and_each_answer_says_what_to_do(scene: Scene) -> None:
    nobody = scene.served.visitor()
    for path in (*PATHS, scene.path, "/health"):
        seen = nobody.get(path)
        assert (seen.status, "idsync token new --operator NAME" in seen.text) == (401, True)
    scene.served.token()
    for path in (*PATHS, scene.path):
        seen = nobody.get(path)
        assert (seen.status, seen.says("Log in")) == (401, True)
        assert seen.headers["www-authenticate"].startswith('Cookie realm="idsync", form-action="/login"')
        assert not [name for name in NAMES if name in seen.text]
    health = nobody.get("/health")
    assert (health.status, health.headers["www-authenticate"]) == (401, 'Bearer realm="idsync"')


def test_only_an_operators_token_logs_in_and_nothing_of_it_stays_behind(scene: Scene) -> None:
    made = scene.served.token()
    visitor = scene.served.visitor()
    for wrong in ("", "idsync_no-such-token", made["token"][:-1], made["id"]):
        assert (visitor.log_in(wrong).status, visitor.cookies) == (401, {})
    seen = visitor.log_in(made["token"])
    assert (seen.status, seen.headers["location"]) == (303, "/holds")
    [parts] = [re.split("; ", seen.headers["set-cookie"])]
    assert set(parts[1:]) == {"Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=28800"}
    home = visitor.get("/")
    assert (home.status, home.says(mail("leo"))) == (200, False)
    assert visitor.get(scene.path).says(mail("leo"))
    assert made["token"] not in parts[0] + home.text
    assert scene.served.visitor().get("/").status == 401


@pytest.mark.parametrize("end", ["log out", "revoke", "expire"])
def test_a_session_ends_with_its_token_and_on_log_out(scene: Scene, end: str) -> None:
    made = scene.served.token(expires=3600.0)
    visitor = scene.served.visitor(made["token"])
    form = visitor.get("/").fields("/logout")
    assert visitor.post("/logout", {"csrf": "x"}).status == 403
    kept = dict(visitor.cookies)
    if end == "log out":
        assert visitor.post("/logout", form).status == 303
        visitor.cookies = kept
    elif end == "revoke":
        scene.served.revoke(made["id"])
    else:
        scene.served.home.core.clock.follow(3601.0)
    assert visitor.get("/").status == 401
    assert visitor.get("/health").status == 401
    assert visitor.log_in(made["token"]).status == (303 if end == "log out" else 401)


def test_too_many_wrong_tokens_and_even_the_right_one_waits(scene: Scene) -> None:
    right = scene.served.token()["token"]
    visitor = scene.served.visitor()
    assert {visitor.log_in(f"idsync_{number}").status for number in range(10)} == {401}
    late = visitor.log_in(right)
    assert (late.status, 0 < int(late.headers["retry-after"]) <= 60) == (429, True)
    scene.served.home.core.clock.follow(61.0)
    assert visitor.log_in(right).status == 429, "setting the clock shortens nothing"


def test_a_form_that_is_not_ours_does_nothing(scene: Scene) -> None:
    ada = scene.served.operator()
    strange: tuple[dict[str, str], ...] = (
        {"Origin": "https://evil.example.com"},
        {"Origin": ""},
        {"Origin": "null"},
        {"csrf": "x" * 43},
        {"csrf": ""},
    )
    for changed in strange:
        assert ada.decide(scene.path, **changed).status == 403, changed
        assert scene.served.visitor().log_in("x", Origin=changed.get("Origin", "null")).status == 403
    assert scene.is_open()
    scene.gateway.assert_at_work(scene.leo, "data", "web")


def test_who_may_look_may_not_decide(scene: Scene) -> None:
    viewer = scene.served.operator("view", "vic")
    seen = viewer.get(scene.path)
    assert seen.says("Your token may look")
    assert not [form for form in seen.every("form") if scene.path in form.get("action", "")]
    checksum = ledger.checksum(ledger.items(scene.served.home.db, scene.hold.id))
    form = {**seen.fields("/logout"), "checksum": checksum, "sure": "yes"}
    for what in ("approve", "reject"):
        assert viewer.get(f"{scene.path}/{what}?checksum={checksum}").status == 403
        assert viewer.post(f"{scene.path}/{what}", form).status == 403
    assert scene.is_open()


def test_an_approval_is_shown_asked_carried_out_and_signed(scene: Scene) -> None:
    ada, home = scene.served.operator(), scene.served.home
    assert scene.gateway.answers(scene.leo.keys) == {200}
    plan = ada.get(scene.path)
    rows = [" ".join("".join(row.itertext()).split()) for row in plan.every("tr")[1:]]
    held = ledger.items(home.db, scene.hold.id)
    assert len(rows) == len(held) == 3
    for item, login in zip(sorted(held, key=lambda item: item.cause), ("bob", "cy", "leo"), strict=True):
        assert any(mail(login) in row and item.version in row and item.cause in row for row in rows)
    unsure = ada.decide(scene.path, sure="")
    assert (unsure.status, "/approve?checksum=" in unsure.headers["location"], scene.is_open()) == (303, True, True)
    assert ada.decide(scene.path).status == 303
    home.wait_until_verified("leo")
    scene.gateway.assert_gone(scene.leo)
    assert ada.get(scene.path).says("operator:ada")
    [entry] = [event for event in home.trail() if event.action == "hold.approved"]
    assert (entry.actor, entry.detail["hold"]) == ("operator/ada", scene.hold.id)
    receipt = ada.get(f"/departures/{home.departure('leo').id}")
    assert all(receipt.says(word) for word in ("gone", "Left standing", "Read back", "key ", "fenced after"))
    assert ada.post(f"{scene.path}/approve", {**plan.fields("/logout"), "sure": "yes", "checksum": "x"}).status == 404


def test_a_rejection_keeps_them(scene: Scene) -> None:
    ada = scene.served.operator()
    assert ada.decide(scene.path, "reject", checksum="0123456789abcdef").status == 409
    assert scene.is_open()
    assert ada.decide(scene.path, "reject").status == 303
    assert ada.get(scene.path).says("rejected")
    scene.gateway.assert_at_work(scene.leo, "data", "web")


@pytest.mark.parametrize("world", ["came back", "no answer", "another checksum"])
def test_an_approval_of_what_is_not_so_any_more_says_why_and_does_nothing(scene: Scene, world: str) -> None:
    ada, changed = scene.served.operator(), {}
    if world == "came back":
        scene.source.become("leo", Observation.PRESENT)
    elif world == "no answer":
        scene.source.error = SourceUnreachable("poll: no answer")
    else:
        changed = {"checksum": "0123456789abcdef"}
    seen = ada.decide(scene.path, **changed)
    expected = {
        "came back": (409, f"something else now of {mail('leo')}"),
        "no answer": (503, "poll: no answer"),
        "another checksum": (409, "has changed since"),
    }
    status, sentence = expected[world]
    assert (seen.status, seen.says(sentence), seen.says("Nothing was decided")) == (status, True, True)
    assert scene.is_open()
    scene.gateway.assert_at_work(scene.leo, "data", "web")


def test_every_page_has_its_manners(scene: Scene) -> None:
    """Nothing from elsewhere, no script, no inline style; labels, headings in order, one h1, ids once, links that lead."""
    ada = scene.served.operator()
    scene.served.home.revoke("ann")
    scene.served.home.wait_until_verified("ann")
    for path, seen in pages_of(scene, ada):
        assert seen.status == 200, path
        assert seen.headers["cache-control"] == "no-store"
        assert seen.headers["content-security-policy"] == POLICY
        assert (seen.headers["x-content-type-options"], seen.headers["referrer-policy"]) == ("nosniff", "same-origin")
        assert not [one for one in seen.tree.iter() if one.tag in {"script", "style", "iframe"} or one.get("style")]
        leads = [one.get(key, "") for one in seen.tree.iter() for key in ("href", "src", "action") if one.get(key)]
        assert all(lead[0] in "/#?" for lead in leads), path
        levels = [int(one.tag[1]) for one in seen.tree.iter() if re.fullmatch("h[1-6]", str(one.tag))]
        assert (levels[0], levels.count(1)) == (1, 1)
        assert all(after - before <= 1 for before, after in pairwise(levels)), path
        ids = [one.get("id") for one in seen.tree.iter() if one.get("id")]
        assert len(ids) == len(set(ids)), path
        shown = [one for one in seen.every("input") if one.get("type") != "hidden"]
        assert {one.get("id") for one in shown} <= {one.get("for") for one in seen.every("label")}
        for lead in {one.get("href", "") for one in seen.tree.iter()} - {"", "#content"}:
            assert ada.get(lead if lead.startswith("/") else path.partition("?")[0] + lead).status == 200, (path, lead)


def test_a_name_is_never_markup(scene: Scene) -> None:
    home, evil = scene.served.home, "<script>alert(1)</script>\"'&\u202egro.live\x00"
    home.write(lambda db: people.open_conflict(db, "account", "x", evil, evil, 1.0))
    home.write(lambda db: facts.put(db, facts.FROZEN, {"reason": evil, "by": evil, "at": 1.0}, 1.0))
    ada = scene.served.operator(name="<b>ada</b>")
    for path in ("/", "/conflicts"):
        seen = ada.get(path)
        assert seen.says("<script>alert(1)</script>\"'&\\u202egro.live" + ("\ufffd" if SHARED else "\\u0000"))
        assert "<script" not in seen.text
        assert "<b>" not in seen.text
    with pytest.raises(ValueError, match="leads away"):
        tag("a", "x", href="javascript:alert(1)")
    with pytest.raises(TypeError):
        Markup("<script>", None)


def test_health_names_every_component_for_a_token_and_for_a_session(scene: Scene) -> None:
    made = scene.served.token()
    bearer = {"Authorization": f"Bearer {made['token']}"}
    by_token = scene.served.visitor().get("/health", **bearer)
    by_session = scene.served.visitor(made["token"]).get("/health")
    for seen in (by_token, by_session):
        found = json.loads(seen.text)
        states = {part["name"]: part["state"] for part in found["components"]}
        assert states.pop("replicas", "not shared") == ("ok" if SHARED else "not shared")
        assert states == {
            "store": "ok",
            "engine": "ok",
            "gateway": "ok",
            "source:poll": "ok",
            "audit": "unknown",
            "drills": "unknown",
        }
        assert (found["state"], found["open_holds"]) == ("ok", 1)
    scene.served.token("bob", expires=86400.0)
    scene.source.error = SourceUnreachable("poll: no answer")
    with pytest.raises(SourceUnreachable):
        scene.served.home.poll("poll")
    again = json.loads(scene.served.visitor().get("/health", **bearer).text)
    worse = {part["name"].partition(":")[0]: part for part in again["components"] if part["state"] == "degraded"}
    assert (again["state"], set(worse)) == ("degraded", {"source", "token"})
    assert "no answer" in worse["source"]["detail"]


def test_spend_after_a_departure_is_the_first_thing_said(scene: Scene) -> None:
    home, ada = scene.served.home, scene.served.operator()
    home.revoke("ann")
    home.wait_until_verified("ann")
    left, now = home.departure("ann"), home.core.clock.now()
    found = spend.After(left.id, left.person_id, "u-ann", "k", "sk-...late", 4.2, now, now, now)
    home.write(lambda db: spend.put_after(db, found))
    for path in ("/", f"/departures/{left.id}"):
        seen = ada.get(path)
        assert (seen.says("Spend after departure"), seen.says("sk-...late"), seen.says("4.20")) == (True, True, True)
    assert ada.get("/").says("1 person spent 4.20 after their access had ended")


def test_long_lists_have_pages(scene: Scene) -> None:
    home, ada = scene.served.home, scene.served.operator()
    made = [ledger.HoldItem(scene.hold.id, f"p{number:03}", "", f"cause {number}", "v") for number in range(120)]
    for item in made:
        home.write(partial(ledger.add_item, item=item))
    shown = [row for page in (1, 2, 3) for row in ada.get(f"{scene.path}?page={page}").every("tr")[1:]]
    assert len(shown) == 123
    assert ada.get(scene.path).says("Page 1 of 3")
    [asked] = [one.get("href", "") for one in ada.get(scene.path).every("a") if "/approve?" in one.get("href", "")]
    onward = [one.get("href", "") for one in ada.get(asked).every("a") if "page=2" in one.get("href", "")]
    second = ada.get(onward[0])
    assert second.says("Page 2 of 3"), "the checksum goes with the pages of a plan"
    [again] = [one.get("href", "") for one in second.every("a") if one.text == "Load again"]
    assert ada.get(f"{scene.path}/approve{again}").says("Page 2 of 3"), "and with loading it again"
    assert ada.get(f"{scene.path}?page=99").says("Nothing is left in it")
    assert len(ada.get("/").text) < 40_000


# -- without a server -----------------------------------------------------------------------------------------------


class Ada:
    id, kind, name, scope, digest, expires_at = "t1", "operator", "ada", "view", "", None


@pytest.mark.parametrize(("steps", "lasts"), [([IDLE + 1], False), ([IDLE - 1] * 3, True), ([IDLE - 1] * 9, False)])
def test_a_session_ends_when_it_rests_and_after_some_hours(steps: list[float], lasts: bool) -> None:
    clock = ManualClock()
    sessions = Sessions(Tokens(lambda: [Ada()], clock), clock)
    _, secret = sessions.begin(Ada())
    found = None
    for step in steps:
        clock.advance(step)
        found = sessions.find(secret)
    assert (found is not None, LONGEST) == (lasts, 8 * 3600)


def test_a_session_crosses_a_network_by_tls_only() -> None:
    far = cookie("ops.example.com", "x")
    assert far.startswith("__Host-idsync=")
    assert far.endswith("; Secure")
    assert "Secure" not in cookie("127.0.0.1:9090", "x") + cookie("[::1]:9090", "x") + cookie("localhost", "x")
    for host, origin, ours in (
        ("ops.example.com", "https://ops.example.com", True),
        ("ops.example.com", "http://ops.example.com", False),
        ("127.0.0.1:9090", "http://127.0.0.1:9090", True),
        ("127.0.0.1:9090", "http://127.0.0.1:9091", False),
        ("", "https://", False),
    ):
        assert is_from_here({"host": host, "origin": origin}) is ours


def test_the_keys_idsync_makes_and_who_was_not_told_are_shown(scene: Scene) -> None:
    home, now = scene.served.home, scene.served.home.core.clock.now()
    ada = scene.served.operator()
    assert not ada.get("/").says("Shared keys of teams")
    failing = TeamKey("ds-prod", "data", "k1", error="files: <folder> is full", failing_since=now - 7200, attempts=3)
    resting = TeamKey("web-prod", "web", "k2", rotate_at=now + 30 * 86400)
    for key in (failing, resting):
        home.write(partial(teamkeys.put, key=key))
    home.write(lambda db: notices.put_receiver(db, notices.Receiver("slack", error="no answer from Slack in time")))
    seen = ada.get("/")
    for said in ("2 keys; 1 failing", "failing for 2 h", "files: &lt;folder&gt; is full", "renewed in 30 days"):
        assert said in seen.text
    assert seen.says("slack: 0 notices waiting; no answer from Slack in time")
