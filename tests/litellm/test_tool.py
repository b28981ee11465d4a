"""`make litellm` where it cannot be done: one sentence, and no failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "litellm"


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ({"PATH": "nowhere"}, "skipped: Prisma needs node, which is not installed"),
        ({"LITELLM_VENV": "/dev/null/venv"}, "skipped: "),
    ],
    ids=["a program", "a place to install"],
)
def test_what_cannot_be_done_skips_with_its_reason(lacking: dict[str, str], told: str) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL)], capture_output=True, text=True, env={**os.environ, **lacking}, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout.splitlines()[-1]
