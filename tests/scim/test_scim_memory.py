"""Answers that are kept: never one from before a change."""

from __future__ import annotations

from idsync.web.scim_rows import KEPT, Memory


def test_what_a_source_changes_is_forgotten_and_nothing_else() -> None:
    memory = Memory(shared=False)
    memory.of("okta").keep("body", "g1", "old")
    memory.of("entra").keep("body", "g1", "theirs")
    memory.forget("okta")
    assert memory.of("okta").find("body", "g1") is None
    assert memory.of("entra").find("body", "g1") == "theirs"


def test_an_answer_read_before_a_change_is_not_kept_after_it() -> None:
    memory = Memory(shared=False)
    shelf = memory.of("okta")  # a reader takes it, then its snapshot
    memory.forget("okta")  # a change is committed meanwhile
    shelf.keep("body", "g1", "old")
    assert memory.of("okta").find("body", "g1") is None


def test_nothing_is_kept_of_what_other_processes_change_as_well() -> None:
    shelf = Memory(shared=True).of("okta")
    shelf.keep("total", "User", 5)
    assert shelf.find("total", "User") is None


def test_a_source_has_a_share_and_no_more() -> None:
    shelf = Memory(shared=False).of("okta")
    shelf.keep("body", "g1", "large", KEPT)
    shelf.keep("body", "g2", "small", 1)
    assert shelf.find("body", "g1") == "large"
    assert shelf.find("body", "g2") is None
