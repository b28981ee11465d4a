"""How much is tried, and with which dice: both come from the environment, so that a failure replays."""

from __future__ import annotations

import os
from random import Random

SEED = "20261123"


class Chance:
    """The size and the dice of one group of suites: `IDSYNC_FUZZ` and `IDSYNC_FUZZ_SEED`, say."""

    def __init__(self, variable: str) -> None:
        self.factor = float(os.environ.get(variable, "1"))
        """1 is the size for `make test`, 20 the nightly one."""
        self.seed = os.environ.get(f"{variable}_SEED", SEED)
        self.replay = f"replay with {variable}={self.factor:g} {variable}_SEED={self.seed}"

    def scaled(self, few: int, many: int) -> int:
        """Return `few` at factor 1 and `many` at factor 20, in proportion between and beyond."""
        return max(1, round(few + (many - few) * (self.factor - 1) / 19))

    def dice(self, *case: object) -> Random:
        """Return the dice of one case; they depend on the seed and its name alone, not on what was thrown before."""
        return Random(":".join(map(str, (self.seed, *case))))
