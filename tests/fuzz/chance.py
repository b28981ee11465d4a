"""How much is tried, and with which dice: both come from the environment, so that a failure replays."""

from __future__ import annotations

import os
from random import Random

FACTOR = float(os.environ.get("IDSYNC_FUZZ", "1"))
"""1 is the size for `make test`, 20 the nightly one."""
SEED = os.environ.get("IDSYNC_FUZZ_SEED", "20261123")
REPLAY = f"replay with IDSYNC_FUZZ={FACTOR:g} IDSYNC_FUZZ_SEED={SEED}"


def scaled(few: int, many: int) -> int:
    """Return `few` at factor 1 and `many` at factor 20, in proportion between and beyond."""
    return max(1, round(few + (many - few) * (FACTOR - 1) / 19))


def dice(*case: object) -> Random:
    """Return the dice of one case; they depend on the seed and its name alone, not on what was thrown before."""
    return Random(":".join(map(str, (SEED, *case))))
