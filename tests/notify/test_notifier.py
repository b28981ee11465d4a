"""The beat at real receivers: told once, again after a day, once more when it is over; nothing lost, no secret shown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.daemon import Daemon, idsync
from support.editor import edit
from support.settings import ADMIN_KEY, store_url, write_settings
from support.waiting import until

from idsync import config
from idsync.clock import ManualClock
from idsync.doctor.channels import notifications
from idsync.errors import ConfigError
from idsync.notify.expiring import endings_of
from idsync.notify.notifier import FIRST_PAUSE, LONGEST_PAUSE, Notifier
from idsync.notify.situations import DAY
from idsync.status import status_of
from idsync.store import facts, journal, ledger, people
from idsync.store.db import Db
from idsync.store.ledger import HoldItem
from idsync.store.notices import Notice, put
from idsync.store.opening import read_only, store_of

from .standins import Hook, certificate, hook

SECRET = "canary-of-the-webhook-secret"
PATH = "/services/T000/canary-of-the-slack-address"
KEY = "sk-canary-of-a-virtual-key"


class Place:
    """A store, a clock, two receivers and what tells them; `again` opens the store anew, as after a restart."""

    def __init__(self, folder: Path, webhook: Hook, slack: Hook) -> None:
        self.webhook, self.slack, self.clock = webhook, slack, ManualClock()
        (folder / "secret").write_text(SECRET)
        (folder / "slack").write_text(f"http://127.0.0.1:{slack.port}{PATH}\n")
        entries: list[dict[str, Any]] = [
            {"name": "ops", "kind": "webhook", "url": webhook.url, "secret_file": str(folder / "secret")},
            {"name": "team", "kind": "slack", "url_file": str(folder / "slack"), "events": ["hold_opened"]},
        ]
        usual = {"allow_private": True, "timeout": "5s"}
        self.settings = write_settings(folder, "http://127.0.0.1:9", notify=[{**entry, **usual} for entry in entries])
        self.counted: list[tuple[str, str]] = []
        self.again()

    def again(self) -> None:
        self.close()
        self.store = store_of(store_url(self.settings))
        self.store.open()
        loaded = config.load(str(self.settings), {}).config
        self.notifier = Notifier(self.store, lambda: loaded, self.clock, lambda *what: self.counted.append(what))

    def close(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    def beat(self, after: float = 0.0) -> tuple[list[tuple[str, str]], int]:
        """Beat once after so many seconds; return what the webhook was told, and how often Slack was called."""
        self.clock.advance(after)
        before, calls = len(self.webhook.bodies), len(self.slack.bodies)
        asyncio.run(self.notifier.beat())
        told = [notice for body in self.webhook.bodies[before:] for notice in json.loads(body)["notices"]]
        return [(notice["event"], notice["state"]) for notice in told], len(self.slack.bodies) - calls

    def hold(self, kind: str = "push") -> str:
        def work(db: Db) -> str:
            made, _ = ledger.join_hold(db, kind, f"too many at once <!channel> {KEY}", self.clock.now())
            person = people.new_person(db, "ada@example.com", self.clock.now())
            ledger.add_item(db, HoldItem(made.id, person, "", "scim_delete", "1"))
            return made.id

        return self.store.write(work)

    def decide(self, hold: str) -> None:
        self.store.write(lambda db: ledger.decide_hold(db, hold, "approved", "op", self.clock.now()))


@pytest.fixture(scope="module")
def hooks() -> Iterator[tuple[Hook, Hook]]:
    with hook() as webhook, hook() as slack:
        yield webhook, slack


@pytest.fixture
def place(tmp_path: Path, hooks: tuple[Hook, Hook]) -> Iterator[Place]:
    for one in hooks:
        one.answer = (200, {})
        for kept in (one.bodies, one.heads, one.paths):
            kept.clear()
    made = Place(tmp_path, *hooks)
    yield made
    made.close()


NEW, AGAIN, OVER = ("hold_opened", "new"), ("hold_opened", "again"), ("hold_opened", "over")


def test_told_once_again_every_day_and_once_when_it_is_over(place: Place) -> None:
    assert place.beat() == ([], 0)
    hold = place.hold()
    assert place.beat(15) == ([NEW], 1)
    assert place.beat(15) == ([], 0)
    place.again()
    assert place.beat(DAY - 16) == ([], 0)
    assert place.beat(1) == ([AGAIN], 1)
    assert place.beat(DAY) == ([AGAIN], 1)
    place.decide(hold)
    assert place.beat(15) == ([OVER], 1)
    assert place.beat(2 * DAY) == ([], 0)
    assert sorted(place.counted) == [("slack", "delivered")] * 4 + [("webhook", "delivered")] * 4
    assert status_of(place.store.reader(), [], {}, place.clock.now())["undelivered_notifications"] == []


def test_each_receiver_is_told_what_it_asked_for_in_one_message(place: Place) -> None:
    place.hold()
    place.hold("emptied")
    place.store.write(lambda db: people.open_conflict(db, "account", "p", f"two match {KEY}", "idsync link", 1.0))
    assert place.beat() == ([NEW, NEW, ("conflict_opened", "new")], 1)
    assert len(place.webhook.bodies) == 1
    text = json.loads(place.slack.bodies[0])["text"]
    assert text.count("NEW hold_opened") == 2
    assert "conflict" not in text
    assert "&lt;!channel&gt;" in text, "what a name says calls nobody"


def test_what_cannot_be_delivered_waits_longer_and_longer_and_survives_a_restart(place: Place) -> None:
    place.webhook.answer = (500, {})
    place.hold()
    with capture_logs() as logs:
        assert place.beat() == ([NEW], 1)
        assert place.beat(FIRST_PAUSE - 1) == ([], 0), "not yet"
        place.again()
        assert place.beat(1) == ([NEW], 0), "and Slack is not told twice because of it"
    (told,) = status_of(place.store.reader(), [], {}, place.clock.now())["undelivered_notifications"]
    assert told == {
        "receiver": "ops",
        "waiting": 1,
        "error": "the webhook of ops answered 500",
        "failing_seconds": 30.0,
    }
    assert [entry["retry_in"] for entry in logs if entry["event"] == "notify.failed"] == [FIRST_PAUSE, 2 * FIRST_PAUSE]
    checks = notifications(place.store.reader(), place.notifier.config, place.clock.now())
    assert [check.ok for check in checks] == [False, True]
    for _ in range(10):
        place.beat(LONGEST_PAUSE)
    place.webhook.answer = (200, {})
    assert place.beat(LONGEST_PAUSE) == ([NEW], 0)
    assert len({head["webhook-id"] for head in place.webhook.heads}) == 1, "a receiver can tell that it is the same"
    assert place.beat(LONGEST_PAUSE) == ([], 0)


def test_what_was_never_delivered_and_is_over_is_told_as_over(place: Place) -> None:
    place.webhook.answer = (503, {"Retry-After": "600"})
    hold = place.hold()
    place.beat()
    place.decide(hold)
    assert place.beat(599) == ([], 1), "it asked to be left alone for 600 s"
    place.webhook.answer = (200, {})
    assert place.beat(1) == ([OVER], 0)


def test_who_is_not_in_the_configuration_any_more_is_forgotten(place: Place) -> None:
    gone = Notice("gone", "hold_opened", "h", "s", "r", 1.0, pending="new")
    place.store.write(lambda db: put(db, gone))
    place.beat()
    assert status_of(place.store.reader(), [], {}, place.clock.now())["undelivered_notifications"] == []


def test_the_webhook_is_signed_and_no_secret_leaves_by_any_way(place: Place, tmp_path: Path) -> None:
    place.hold()
    with capture_logs() as logs:
        place.beat()
        place.slack.answer = place.webhook.answer = (500, {})
        place.hold("other")
        place.beat()
    (body, head) = place.webhook.bodies[0], place.webhook.heads[0]
    text = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + body
    made = base64.b64encode(hmac.new(SECRET.encode(), text, hashlib.sha256).digest()).decode()
    assert head["webhook-signature"] == f"v1,{made}"
    assert place.slack.paths[0] == PATH
    place.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("idsync.db*"))
    sent = [str(logs).encode(), *place.webhook.bodies, *place.slack.bodies, str(place.webhook.heads).encode()]
    assert not [part for part in sent if KEY.encode() in part], "masked, although the store was given it"
    shown = [idsync(place.settings, "config", "show").out.encode()]
    for secret in (SECRET, PATH, ADMIN_KEY):
        assert not [part for part in (*sent, *shown, kept) if secret.encode() in part]


def test_the_daemon_tells_and_a_test_message_is_marked_as_one(place: Place) -> None:
    place.hold()
    place.store.write(lambda db: journal.append(db, at=1.0, actor="a", action="b", subject="ada", detail={}))
    place.close()
    edit(store_url(place.settings), "UPDATE audit SET subject = 'eve'")
    with Daemon(place.settings) as daemon, read_only(store_url(place.settings)) as db:
        until(lambda: place.webhook.bodies and place.slack.bodies, "both are told")
        until(lambda: facts.get(db, journal.BROKEN), "the broken trail is noted, and told at the next beat")
        daemon.assert_discreet(SECRET, PATH, KEY)
    place.webhook.bodies.clear()
    done = idsync(place.settings, "notify", "test", "--json")
    assert (done.code, done.json) == (0, [{"name": name, "delivered": True, "error": None} for name in ("ops", "team")])
    assert json.loads(place.webhook.bodies[0])["type"] == "idsync.test"
    assert "a test, nothing has happened" in json.loads(place.slack.bodies[-1])["text"]
    place.slack.answer = (404, {})
    done = idsync(place.settings, "notify", "test", "team")
    assert (done.code, done.out) == (1, "team: NOT DELIVERED: the slack of team answered 404\n")


def test_a_secret_that_cannot_be_read_keeps_the_others_from_nothing(place: Place, tmp_path: Path) -> None:
    (tmp_path / "secret").unlink()
    (tmp_path / "slack").write_text("http://hooks.slack.com/not-encrypted")
    place.hold()
    assert place.beat() == ([], 0)
    said = [check.says for check in notifications(place.store.reader(), place.notifier.config, place.clock.now())]
    assert "cannot read the secret" in said[0]
    assert "is no https address" in said[2]
    assert idsync(place.settings, "config", "check", "--start").code == 2
    (tmp_path / "secret").write_text(SECRET)
    assert place.beat(FIRST_PAUSE) == ([NEW], 0)


def test_certificates_of_sources_are_read(tmp_path: Path) -> None:
    authority, _ = certificate(tmp_path, "entra.example.com", days=3)
    graph = {"name": "entra", "tenant_id": "t", "client_id": "c"}
    tables = [{**graph, "certificate_file": str(authority)}, {**graph, "name": "other", "certificate_file": "/none"}]
    settings = write_settings(tmp_path, "http://127.0.0.1:9", sources={"graph": tables})
    (found,) = endings_of(config.load(str(settings), {}).config)
    assert (found.what, 2 < (found.at - time.time()) / DAY < 4) == ("the certificate of source entra", True)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "webhook", "url": "http://hooks.example.com/"}, "url", "must be https"),
    ({"kind": "webhook", "url": "http://127.0.0.1/"}, "url", "must be https"),
    ({"kind": "webhook", "url": "https://a:b@hooks.example.com/"}, "url", "user name or password"),
    ({"kind": "webhook", "url": "file:///etc/passwd"}, "url", "must be an https address"),
    ({"kind": "webhook", "url": "https://hooks.example.com/"}, "secret_file", "missing"),
    ({"kind": "slack"}, "url_file", "missing"),
    ({"kind": "slack", "url_file": "/x", "url": "https://hooks.slack.com/x"}, "url", "not a setting of slack"),
    ({"kind": "slack", "url_file": "/x", "events": ["holds"]}, "events", "hold_opened"),
    ({"kind": "email", "host": "mail.example.com", "sender": "a@example.com"}, "to", "missing"),
    (
        {
            "kind": "email",
            "host": "mail.example.com",
            "sender": "a@example.com",
            "to": ["b@example.com"],
            "tls": "none",
        },
        "tls",
        "in clear",
    ),
    (
        {"kind": "email", "host": "m.example.com", "sender": "a@example.com", "to": ["b\r\nBcc: c@example.com"]},
        "to",
        "not an e-mail address",
    ),
]


@pytest.mark.parametrize(
    ("entry", "key", "said"), BAD, ids=[f"{entry['kind']}-{key}-{said}" for entry, key, said in BAD]
)
def test_a_receiver_that_cannot_be_is_refused(tmp_path: Path, entry: dict[str, Any], key: str, said: str) -> None:
    settings = write_settings(tmp_path, "http://127.0.0.1:9", notify=[{"name": "ops", **entry}])
    with pytest.raises(ConfigError) as failed:
        config.load(str(settings), {})
    assert any(key in path and said in what for path, what in failed.value.problems), str(failed.value)
