"""Who is who: immutable ids first, e-mail only where it is trusted, and never a guess."""

from __future__ import annotations

import pytest

from idsync.errors import NameTaken
from idsync.model import Group, Lane, Observation
from idsync.store import jobs

from .world import World


@pytest.fixture
def data(world: World) -> Group:
    return world.group("Data")


def test_nobody_works_for_a_person_who_is_not_there(world: World) -> None:
    """A pass may have planned for a drill's canary that was removed meanwhile; a job for nobody would never end."""
    world.write(lambda db: world.intake.people.open_job(db, "nobody", Lane.REVOKE))
    assert jobs.all_jobs(world.db) == []


def test_the_same_external_id_after_a_delete_is_the_same_person(world: World, data: Group) -> None:
    first = world.user("ada", data, external="e-1")
    world.delete(first)
    second = world.user("ada.married", external="e-1")
    assert second.id != first.id
    assert world.person(second).id == world.person(first).id
    world.add(data, second)
    assert (world.left(second), world.teams(second)) == (None, {"data"})


def test_sources_of_one_directory_link_by_the_external_id(world: World) -> None:
    one, other = world.user("ada", external="e-1"), world.user("ada@x", source="okta-2", external="e-1")
    assert world.person(one).id == world.person(other).id


def test_the_external_id_of_another_directory_means_nothing(world: World) -> None:
    one, other = world.user("ada", external="e-1"), world.user("ada", source="entra", external="e-1")
    assert world.person(one).id != world.person(other).id


def test_the_same_user_name_with_a_new_external_id_is_a_new_person(world: World, data: Group) -> None:
    leaver = world.user("ada", data, external="e-1")
    world.delete(leaver)
    namesake = world.user("ada", data, external="e-2")
    assert world.person(namesake).id != world.person(leaver).id
    assert world.left(leaver) is not None
    assert (world.left(namesake), world.teams(namesake)) == (None, {"data"})


def test_whoever_takes_over_an_inactive_record_is_somebody_else(world: World) -> None:
    leaver = world.user("ada", external="e-1")
    before = world.person(leaver)
    world.change(leaver, active=False)
    taken = world.change(leaver, external_id="e-2", active=True)
    assert taken.id == leaver.id
    assert world.person(taken).id != before.id
    assert world.db.one("SELECT 1 FROM departures WHERE person_id = :id AND closed_at IS NULL", id=before.id)


def test_an_external_id_that_changes_while_active_keeps_the_person_and_says_so(world: World, data: Group) -> None:
    ada = world.user("ada", data, external="e-1")
    before = world.person(ada)
    world.change(ada, external_id="e-2")
    assert world.person(ada).id == before.id
    assert world.teams(ada) == {"data"}
    [conflict] = world.conflicts()
    assert (conflict.kind, conflict.subject, conflict.remedy) == (
        "external_id",
        "ada",
        "if it is somebody else: idsync revoke ada",
    )


def test_an_external_id_that_arrives_later_is_no_conflict(world: World) -> None:
    ada = world.user("ada")
    before = world.person(ada)
    world.change(ada, external_id="e-1")
    assert (world.person(ada).id, world.conflicts()) == (before.id, [])


@pytest.mark.parametrize(
    ("source", "other", "linked"),
    [("okta", "entra", True), ("entra", "okta", True), ("okta", "shy", False), ("shy", "okta", False)],
)
def test_directories_link_by_email_only_where_both_trust_it(
    world: World, source: str, other: str, linked: bool
) -> None:
    one = world.user("ada", source=source, email="Ada@Example.com")
    two = world.user("a.lovelace", source=other, email="ada@example.COM")
    assert (world.person(one).id == world.person(two).id) is linked
    assert world.conflicts() == []


def test_one_directory_never_links_by_email(world: World) -> None:
    one, two = world.user("ada", email="a@example.com"), world.user("bob", email="a@example.com")
    three = world.user("cy", source="okta-2", email="a@example.com")
    assert len({world.person(user).id for user in (one, two, three)}) == 3


def test_a_leaver_is_not_found_by_email(world: World) -> None:
    gone = world.user("ada", email="a@example.com")
    world.change(gone, active=False)
    deleted = world.user("ada2", email="b@example.com")
    world.delete(deleted)
    assert world.person(world.user("x", source="entra", email="a@example.com")).id != world.person(gone).id
    assert world.person(world.user("y", source="entra", email="b@example.com")).id != world.person(deleted).id


def test_an_email_of_two_people_links_nobody_and_is_a_conflict(world: World) -> None:
    one, two = world.user("ada", email="a@example.com"), world.user("bob", email="a@example.com")
    new = world.user("x", source="entra", email="a@example.com")
    assert world.person(new).id not in {world.person(one).id, world.person(two).id}
    [conflict] = world.conflicts()
    assert (conflict.kind, conflict.subject) == ("person", "x")
    assert conflict.remedy.startswith("idsync link")


# -- records --------------------------------------------------------------------------------------------------------


def test_a_deleted_user_leaves_a_tombstone_frees_the_name_and_ends_memberships(world: World, data: Group) -> None:
    ada = world.user("ada", data, external="e-1")
    world.delete(ada)
    row = world.db.one("SELECT * FROM users WHERE id = :id", id=ada.id)
    assert row is not None
    assert (row["deleted_at"], row["observation"], row["active"]) == (world.clock.now(), Observation.ABSENT.value, 0)
    assert world.members(data) == set()
    assert world.user("ADA").id != ada.id


@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_a_user_name_is_taken_once_in_a_source_whatever_its_case(world: World, name: str) -> None:
    world.user("ada")
    bob = world.user("bob")
    with pytest.raises(NameTaken, match="is in use"):
        world.user(name)
    with pytest.raises(NameTaken):
        world.change(bob, user_name=name)
    world.user(name, source="entra")
    assert world.live(bob).user_name == "bob"


def test_a_user_may_change_the_case_of_their_own_name(world: World) -> None:
    assert world.change(world.user("ada"), user_name="Ada").user_name == "Ada"


def test_a_display_name_is_taken_once_in_a_source(world: World, data: Group) -> None:
    web = world.group("Web")
    with pytest.raises(NameTaken):
        world.group("data")
    with pytest.raises(NameTaken):
        world.replace_group(web, display_name="Data")
    world.delete_group(data)
    world.group("Data")


def test_an_edit_that_changes_nothing_keeps_the_version_opens_no_job_and_leaves_no_entry(
    world: World, data: Group
) -> None:
    ada = world.user("ada", data)
    world.finish_jobs()
    before, members, entries = world.live(ada), world.db.one("SELECT * FROM groups"), len(world.trail())
    world.clock.advance(5)
    assert world.change(ada).version == before.version
    assert world.change(ada, active=True).updated_at == before.updated_at
    world.add(data, ada)
    world.remove(data, "nobody")
    world.replace_group(data, [ada, ada])
    world.replace_group(data)
    after = world.db.one("SELECT * FROM groups")
    assert members is not None
    assert after is not None
    assert tuple(after) == tuple(members)
    assert (world.job(ada), len(world.trail())) == (None, entries)


def test_what_only_changes_a_name_raises_the_version_and_opens_no_job(world: World, data: Group) -> None:
    ada = world.user("ada", data)
    world.finish_jobs()
    assert world.change(ada, display_name="Ada L.", doc={"displayName": "Ada L."}).version == 2
    assert world.job(ada) is None


def test_the_engine_is_woken_after_the_commit_that_opened_a_job(world: World, data: Group) -> None:
    world.user("ada")
    assert world.woken == 0
    world.user("bob", data)
    world.write(lambda db: None)  # hooks of the commit before have run by now
    assert world.woken > 0


# -- the trail ------------------------------------------------------------------------------------------------------

DIRECTORY = ("user.", "group.")


def test_every_mutation_adds_exactly_one_entry_of_the_directory(world: World) -> None:
    ada = world.user("ada", external="e-1")
    data = world.group("Data", ada)
    world.change(ada, display_name="Ada")
    world.change(ada, active=False)
    world.change(ada, active=True)
    world.remove(data, ada)
    world.add(data, ada)
    world.replace_group(data, display_name="Data 2")
    world.delete_group(data)
    world.delete(ada)
    assert [event.action for event in world.trail(*DIRECTORY)] == [
        "user.created",
        "group.created",
        "user.changed",
        "user.changed",
        "user.changed",
        "group.members",
        "group.members",
        "group.renamed",
        "group.deleted",
        "user.deleted",
    ]
    assert {event.actor for event in world.trail(*DIRECTORY)} == {"okta/token-1"}


def test_a_group_whose_external_id_changes_leaves_an_entry(world: World, data: Group) -> None:
    before = len(world.trail(*DIRECTORY))
    assert world.replace_group(data, external_id="g-1").version == 2
    assert len(world.trail(*DIRECTORY)) == before + 1


def test_an_entry_names_what_changed_and_never_its_value(world: World) -> None:
    ada = world.user("ada", email="old@example.com")
    world.change(ada, active=False, email="new@example.com", doc={"phone": "+1"}, external_id="e-1")
    last = world.trail("user.changed")[-1]
    assert last.detail["changed"] == ["active", "externalId", "phone", "userName"]
    assert "+1" not in str(last)


def test_a_failed_edit_leaves_no_trace(world: World) -> None:
    world.user("ada")
    before = len(world.trail())
    with pytest.raises(NameTaken):
        world.user("ada")
    assert len(world.trail()) == before
    assert len(world.db.all("SELECT id FROM persons")) == 1
