"""However a drill is ended, after the next start of the daemon everything is as it was before.

On a shared store the command drills itself: it is what ends, and a daemon that goes on removes the canary.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from crash.size import FULL
from support.stores import SHARED
from support.waiting import until

from .ground import ground

HANG: dict[str, Any] = {"hang": True}
UNANSWERED: dict[str, Any] = {"drop": "after"}
STEPS = [
    ("first account made, answer lost", "/user/new", UNANSWERED),
    ("the canary's own account not made", "/user/new", {**HANG, "skip": 2}),
    ("first key made, answer lost", "/key/generate", UNANSWERED),
    ("a key that every replica shall take", "/v1/models", {**HANG, "skip": 3}),
    ("fence not written", "/user/update", {**HANG, "match": {"metadata": {"idsync_fence": "drill"}}}),
    ("one key deleted, answer lost", "/key/delete", {**UNANSWERED, "skip": 0}),
    (
        "the departure before its fence",
        "/user/update",
        {**HANG, "match": {"metadata": {"scim_active": False}}, "skip": 1},
    ),
    ("the departure after its block", "/key/delete", {**HANG, "skip": 1}),
    ("the departure is read back", "/key/info", HANG),
    ("first account not removed", "/user/delete", HANG),
    ("second account removed, answer lost", "/user/delete", {**UNANSWERED, "skip": 1}),
]


TRIED = STEPS if FULL else STEPS[1::3]
"""`make crash` dies at every one of them."""


@pytest.mark.parametrize(("path", "how"), [pytest.param(path, how, id=name) for name, path, how in TRIED])
def test_a_daemon_killed_at_a_step_of_a_drill_removes_the_canary_at_its_next_start(
    tmp_path: Path, path: str, how: dict[str, Any]
) -> None:
    with ground(tmp_path) as here:
        before = here.state()
        here.gateway.break_with(path, **how)
        with here.drilling() as process:
            here.gateway.wait_for_fault(path)
            here.kill_who_drills(process)
            out, err = process.communicate(timeout=30)
        if not SHARED:
            assert process.returncode == 1
            assert ("the daemon ended before it had answered" in err) or "FAILED" in out, "it may have got to its end"
        here.gateway.mend()
        here.go_on()
        until(here.is_clear, "the canary is removed", told=here.daemon.said)
        assert here.state() == before
        here.assert_discreet(out, err)
        here.daemon.assert_discreet()


def test_a_canary_whose_removal_the_gateway_refuses_is_removed_later(tmp_path: Path) -> None:
    with ground(tmp_path) as here:
        before = here.state()
        here.gateway.break_with("/key/generate", hang=True)
        with here.drilling() as process:
            here.gateway.wait_for_fault("/key/generate")
            here.kill_who_drills(process)
        here.gateway.mend()
        here.gateway.break_with("/user/delete", status=503)
        here.go_on()
        until(lambda: here.events("drill.not_cleared"), "the removal fails")
        here.gateway.mend()
        assert here.drill().code == 0
        assert here.state() == before


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/key/generate", {}),
        ("/key/info", {}),
        ("/user/update", {"match": {"metadata": {"scim_active": False}}, "skip": 1}),
    ],
    ids=["a key is made", "the departure is read back", "the departure is fenced"],
)
def test_a_daemon_that_is_stopped_in_a_drill_removes_the_canary_before_it_ends(
    tmp_path: Path, path: str, how: dict[str, Any]
) -> None:
    """Calls under way are waited for: an update of an account that is deleted meanwhile would make it anew."""
    with ground(tmp_path) as here:
        before = here.state()
        here.gateway.break_with(path, delay=1.0, **how)
        with here.drilling() as process:
            here.gateway.wait_for_fault(path)
            if SHARED:
                process.send_signal(signal.SIGINT)
            else:
                here.daemon.terminate()
                assert here.daemon.exit_code() == 0
            out, _ = process.communicate(timeout=30)
        assert SHARED or (process.returncode, "FAILED the daemon was stopped meanwhile" in out) == (1, True)
        assert not SHARED or process.returncode == 130
        assert here.state() == before
        here.daemon.assert_discreet()
