"""The people most tests are about: Leo, who will leave, Ann, who stays, and a key that is nobody's."""

from __future__ import annotations

from dataclasses import dataclass

from support.gateway import Gateway, Holder, Key
from support.home import Home

LAB = "lab"
"""A team no configuration names; both have keys in it."""
OWN = {"cost_centre": "4711", "notes": {"by": "somebody else"}}
"""Metadata that was there before idsync and has to be there afterwards."""


@dataclass
class Company:
    """Leo and Ann at the gateway. `shared` has no owner; `all_secrets` is what must never be logged."""

    gateway: Gateway
    leo: Holder
    ann: Holder
    shared: Key

    @property
    def all_secrets(self) -> list[str]:
        return [key.raw for key in (*self.leo.keys, *self.ann.keys, self.shared)]

    def assert_leo_is_gone(self) -> None:
        """Every key of his refused on every replica, no roster has him; everybody else works as before."""
        self.gateway.assert_gone(self.leo)
        self.assert_others_work()

    def assert_leo_goes_after_all(self, home: Home) -> None:
        """The gateway works again: what had failed is tried anew, and then he is gone."""
        self.gateway.mend()
        home.hurry()
        home.wait_until_verified("leo")
        self.assert_leo_is_gone()

    def second_account(self, home: Home, *keys_in: str | None) -> Holder:
        """Give Leo another account, with one key for every team named."""
        second = self.gateway.account("leo2", *keys_in)
        home.link("leo", second.user_id)
        home.wait_until_quiet()
        self.gateway.ready()
        return second

    def crowd(self, home: Home, count: int) -> list[Holder]:
        """Hire so many into no group, each with a key in the lab and one in no team."""
        crowd = [self.gateway.account(f"c{number:02}", LAB, None) for number in range(count)]
        for holder in crowd:
            home.directory.hire(holder.email)
        self.gateway.ready()
        return crowd

    def assert_others_work(self) -> None:
        self.gateway.assert_at_work(self.ann, "data", LAB)
        assert self.gateway.answers([self.shared]) == {200}


def founded(gateway: Gateway, home: Home) -> Company:
    """Hire both into Data, wait until they are in, then give them keys that every replica remembers."""
    leo, ann = gateway.account("leo", metadata=OWN), gateway.account("ann")
    gateway.team(LAB, leo.user_id, ann.user_id)
    home.directory.hire("leo", "Data")
    home.directory.hire("ann", "Data")
    home.wait_until_quiet()
    leo.keys = [gateway.key_of(leo.user_id, team) for team in ("data", LAB, None)]
    ann.keys = [gateway.key_of(ann.user_id, team) for team in ("data", LAB)]
    company = Company(gateway, leo, ann, gateway.key_of(None, "data"))
    gateway.ready()
    return company
