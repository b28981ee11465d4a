"""How much these suites try, and with which dice."""

from __future__ import annotations

from support.chance import Chance

_FUZZ = Chance("IDSYNC_FUZZ")
FACTOR = _FUZZ.factor
SEED = _FUZZ.seed
REPLAY = _FUZZ.replay
scaled = _FUZZ.scaled
dice = _FUZZ.dice
