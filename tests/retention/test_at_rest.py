"""One thing that is open is enough to keep what a deleted record says, and the receipt; each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores import url_of

from idsync.store import pruning
from idsync.store.db import Db
from idsync.store.opening import store_of

PERSON = "INSERT INTO persons VALUES ('p', 'leo', NULL, 1, NULL, 1, 1)"
RECORD = (
    "INSERT INTO users (id, source, user_name, user_name_key, active, doc, person_id, observation, observed_at,"
    " created_at, updated_at, version, deleted_at) VALUES ('u', 'okta', 'leo', 'leo', 0, '{}', 'p', 'absent', 1, 1, 1, 1, 5)"
)
NAME = "INSERT INTO names VALUES ('p', 'user_name', 'okta', 'leo', 'leo', 1)"
DEPARTURE = (
    "INSERT INTO departures (id, person_id, label, kind, evidence, cause, source, state, received_at, accepted_at,"
    " pushed_at, delete_at, settled_at, receipt) VALUES ('d', 'p', 'leo', 'departure', 'scim_delete', 'c', 'okta',"
    " '{state}', 1, 1, 1, 1, {settled}, '{{}}')"
)
SETTLED = DEPARTURE.format(state="settled", settled="5")
HOLD = "INSERT INTO holds VALUES ('h', 'k', 'r', '{state}', 1, NULL, NULL)"
ITEM = "INSERT INTO hold_items VALUES ('h', 'p', '', 'c', 'v')"
BAN = "INSERT INTO bans VALUES ('b', 'p', 'leo', 'r', 0, 1, 'op', {lifted}, NULL)"
OPEN = {
    "protected: never departed": [],
    "came back": [SETTLED, "UPDATE departures SET closed_at = 15"],
    "not settled": [DEPARTURE.format(state="blocked", settled="NULL")],
    "settled and found again": [DEPARTURE.format(state="verified", settled="5")],
    "banned": [SETTLED, BAN.format(lifted="NULL")],
    "held": [SETTLED, HOLD.format(state="open"), ITEM],
    "a loss is held": [SETTLED, "INSERT INTO held_losses VALUES ('okta', 'x', 'h', 'p', '{}', 1)"],
    "a job": [
        SETTLED,
        "INSERT INTO jobs (person_id, lane, wanted, run_at, attempts, created_at) VALUES ('p', 'r', 1, 1, 0, 1)",
    ],
    "a canary": [SETTLED, "INSERT INTO facts VALUES ('drill:canary:leo', '{}', 1)"],
    "too young": [DEPARTURE.format(state="settled", settled="50"), "UPDATE users SET deleted_at = 50"],
}
AT_REST = {
    "settled": [SETTLED],
    "ban lifted": [SETTLED, BAN.format(lifted="2")],
    "hold decided": [SETTLED, HOLD.format(state="approved"), ITEM],
}


@pytest.mark.parametrize(
    ("statements", "taken"),
    [*((rows, 0) for rows in OPEN.values()), *((rows, 1) for rows in AT_REST.values())],
    ids=[*OPEN, *AT_REST],
)
def test_what_is_open_is_kept(tmp_path: Path, statements: list[str], taken: int) -> None:
    store = store_of(url_of(tmp_path / "idsync.db"))
    store.open()

    def fill(db: Db) -> None:
        for statement in [PERSON, RECORD, NAME, *statements]:
            db.execute(statement)

    store.write(fill)
    takers: list[Callable[[Db], int]] = [
        lambda db: pruning.receipts(db, 10.0, 20.0),
        lambda db: pruning.tombstones(db, 10.0, 20.0),
    ]
    assert [store.write(take) for take in takers] == [taken, taken]
    labels = store.reader().all("SELECT label FROM persons UNION SELECT label FROM departures")
    assert [row["label"] for row in labels] == (["p"] if taken else ["leo"])
    store.close()
