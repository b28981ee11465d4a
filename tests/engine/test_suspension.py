"""Suspended: fenced and blocked, never deleted; coming back lifts exactly what was ours."""

from __future__ import annotations

import time
from dataclasses import replace

from support.company import founded
from support.directory import mail
from support.fixtures import Opener, both_dialects
from support.gateway import Gateway
from support.home import Home

from idsync.model import Observation, Origin
from idsync.standing import Cause
from idsync.store import directory, ledger
from idsync.store.db import Db


def say(home: Home, login: str, observation: Observation) -> None:
    """Let a source observe somebody, as a polled one would: SCIM has no word for suspension."""

    def edit(db: Db) -> None:
        user = directory.user_by_name(db, "okta", mail(login))
        assert user is not None
        directory.put_user(db, replace(user, observation=observation, observed_at=time.time()))
        cause = Cause(Origin("okta", "test", time.time()), f"okta observed {observation.value}")
        home.core.intake.people.look_again(db, [user.person_id], cause)

    home.write(edit)
    home.wait_until_quiet()


@both_dialects
def test_the_suspended_are_locked_out_and_get_the_same_keys_back(gateway: Gateway, opened: Opener) -> None:
    home = opened(routero={"cache_time": "0.05s"})
    company = founded(gateway, home)
    own_block = company.leo.keys[0]
    gateway.ok("/key/block", {"key": own_block.id})
    gateway.ready()
    say(home, "leo", Observation.SUSPENDED)
    assert gateway.answers(company.leo.keys) == {401}
    assert ledger.unverified(home.db, time.time()) == 0
    for _ in range(2):
        assert all(gateway.is_blocked(key) for key in company.leo.keys), "blocked, so not deleted"
        assert set(gateway.teams_with(company.leo.user_id)) == {"data", "lab"}
        home.reconcile()  # which does not end it either
        home.wait_until_quiet()
    told = [entry.action for entry in home.trail() if entry.subject == mail("leo")]
    assert told.count("access.suspended") == 1

    say(home, "leo", Observation.PRESENT)
    assert gateway.answers(company.leo.keys[1:]) == {200}
    assert gateway.is_blocked(own_block), "somebody else blocked that one"
    assert home.state("leo") == "cancelled"
    company.assert_others_work()


def test_whoever_leaves_while_suspended_loses_everything(gateway: Gateway, opened: Opener) -> None:
    home = opened()
    company = founded(gateway, home)
    say(home, "leo", Observation.SUSPENDED)
    home.offboard("leo")
    company.assert_leo_is_gone()
