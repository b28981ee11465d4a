"""How much these suites try, and with which dice."""

from __future__ import annotations

from support.chance import Chance

CRASH = Chance("IDSYNC_CRASH")
FULL = CRASH.factor >= 20
"""Whether this is `make crash`, which leaves nothing out."""
