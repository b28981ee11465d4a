"""What a sink is: it takes one secret at a time, or says that it has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr


@dataclass(frozen=True)
class Delivery:
    """A new secret and whose it is. `team` is the alias of the team, None for a personal key.

    `expires_at` is in epoch seconds, None for a key that does not expire.
    """

    secret: SecretStr
    alias: str
    team: str | None
    key_id: str
    expires_at: float | None


class Sink(Protocol):
    name: str

    async def check(self) -> list[str]:
        """Say what would keep it from taking a secret, a sentence each, writing nothing."""
        ...

    async def deliver(self, delivery: Delivery) -> None:
        """Hand the secret over; once more with the same secret does no harm.

        Raises:
            SinkFailed: it has not taken the secret, or nobody knows.
        """
        ...

    async def close(self) -> None: ...
