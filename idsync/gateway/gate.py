"""When not to call at all: one small gate in front of every call.

what was seen                     what the next calls get
our key refused                   AdminKeyRefused at once for 60 s, then one probe; only the probe's success opens
429 with Retry-After              Throttled until then
five failures in a row            Transient at once, but one probe a second; any answer opens
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from idsync.clock import Clock
from idsync.errors import AdminKeyRefused, GatewayError, Rejected, Throttled, Transient


class Gate:
    """Let calls through, or refuse them without touching the network. One event loop, no locks."""

    def __init__(
        self, clock: Clock, *, refused_pause: float = 60.0, failures: int = 5, probe_every: float = 1.0
    ) -> None:
        self._clock = clock
        self._refused_pause = refused_pause
        self._failures_allowed = failures
        self._probe_every = probe_every
        self._refused_key: str | None = None
        self._refused_until = 0.0
        self._proving = False
        self._throttled_until = 0.0
        self._failures = 0
        self._next_probe = 0.0

    @property
    def refused(self) -> bool:
        """Whether our key was refused and has not been accepted since."""
        return self._refused_key is not None

    def closed_for(self) -> float:
        """Return the seconds until a call may pass after failures or a 429; 0.0 when one may pass now."""
        now = self._clock.monotonic()
        probe = self._next_probe if self.probing else now
        return max(0.0, probe - now, self._throttled_until - now)

    @property
    def probing(self) -> bool:
        """Whether the gateway seems to be down, so that single calls find out when it is back."""
        return self._failures >= self._failures_allowed

    @contextmanager
    def passing(self, key: str = "") -> Iterator[None]:
        """Let one call with this key through and learn from how it ends.

        Raises:
            AdminKeyRefused, Throttled, Transient: not now.
        """
        proves = self._enter(key)
        error: GatewayError | None = None
        judged = False
        try:
            yield
            judged = True
        except GatewayError as problem:
            error, judged = problem, True
            raise
        finally:
            if proves:
                self._proving = False
            if judged:
                self._judge(error, key, proves)

    def _enter(self, key: str) -> bool:
        """Raise, or return whether this call is the one that may prove the key."""
        now = self._clock.monotonic()
        if self.refused and not self._may_prove(key, now):
            raise AdminKeyRefused("the gateway refused idsync's admin key; one call a minute tries again", status=401)
        if now < self._throttled_until:
            raise Throttled("the gateway asked for a pause", retry_after=self._throttled_until - now)
        if self.probing:
            self._take_probe(now)
        if self.refused:
            self._proving = True
        return self.refused

    def _may_prove(self, key: str, now: float) -> bool:
        """Allow one call after the pause, or at once with another key than the refused one."""
        return not self._proving and (now >= self._refused_until or key != self._refused_key)

    def _take_probe(self, now: float) -> None:
        if now < self._next_probe:
            raise Transient(f"the gateway failed {self._failures} times in a row; one call a second tries again")
        self._next_probe = now + self._probe_every

    def _judge(self, error: GatewayError | None, key: str, proves: bool) -> None:
        now = self._clock.monotonic()
        if isinstance(error, AdminKeyRefused):
            self._failures = 0
            self._refused_key, self._refused_until = key, now + self._refused_pause
        elif isinstance(error, Throttled) and error.retry_after is not None:
            self._throttled_until = max(self._throttled_until, now + error.retry_after)
        elif isinstance(error, Transient):
            self._failures += 1
            self._next_probe = max(self._next_probe, now + self._probe_every)
        elif error is None or isinstance(error, Rejected):
            self._failures = 0
        if proves:
            self._judge_key(error, key, now)

    def _judge_key(self, error: GatewayError | None, key: str, now: float) -> None:
        """Open after an answer that only an accepted key gets; anything else leaves it unproven for another pause."""
        if error is None or isinstance(error, Rejected):
            self._refused_key = None
        else:
            self._refused_key, self._refused_until = key, now + self._refused_pause
