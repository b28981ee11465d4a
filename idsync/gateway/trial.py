"""Try a virtual key from outside, as its holder would: the proof that it is dead, or the proof that it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from idsync.errors import GatewayError
from idsync.gateway.answers import Answer, clean, json_of
from idsync.gateway.transport import NoAnswer, Transport

LIMIT = 2 * 1024 * 1024
"""Bytes of an answer that are read."""

_REFUSING_TYPES = frozenset({"token_not_found_in_db", "expired_key"})
_REFUSING_WORDS = re.compile(r"\bkey is blocked\b|\bdeactivated\b|\bexpired\b", re.IGNORECASE)


@dataclass(frozen=True)
class KeyTrial:
    """How a key fared. `refused` is True only for a proven refusal; `status` is None when nobody answered."""

    status: int | None
    refused: bool
    why: str

    @property
    def works(self) -> bool:
        """Tell whether the key was taken; one that neither works nor is refused proves nothing."""
        return self.status is not None and 200 <= self.status < 300


class Door:
    """One address at which keys are tried, each time over a connection of its own, as a stranger would."""

    def __init__(self, url: str, *, ca_file: str = "", timeout: float = 10.0) -> None:
        self.url = url
        self._transport = Transport(url, timeout=timeout, connections=8, ca_file=ca_file, fresh=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.close()

    async def try_key(self, raw_key: str) -> KeyTrial:
        """Ask GET /v1/models with the key itself. Never raises for what the gateway does.

        A 401 proves a revocation only when it says that the key is unknown, blocked, expired, or its user deactivated:
        with its database down a LiteLLM 1.108.0 proxy answers 401 `auth_error` to a living key (observed).
        """
        headers = {"Authorization": f"Bearer {raw_key}"}
        try:
            answer = await self._transport.exchange("GET", "/v1/models", headers=headers, patient=True, limit=LIMIT)
        except NoAnswer as error:
            return KeyTrial(None, False, str(error))
        return _judge(answer, raw_key)


async def try_key(
    base_url: str,
    raw_key: str,
    *,
    ca_file: str = "",
    timeout: float = 10.0,  # noqa: ASYNC109  (aiohttp applies it, and turns it into "no answer")
) -> KeyTrial:
    """Try a key once; see `Door`."""
    async with Door(base_url, ca_file=ca_file, timeout=timeout) as door:
        return await door.try_key(raw_key)


def _judge(answer: Answer, raw_key: str) -> KeyTrial:
    if answer.ok:
        return KeyTrial(answer.status, False, "the key works")
    kind, message = _words(answer)
    if answer.status == 401 and (kind in _REFUSING_TYPES or _REFUSING_WORDS.search(message)):
        return KeyTrial(401, True, clean(message, (raw_key,)) or kind)
    return KeyTrial(answer.status, False, f"{answer.status} is no proof: {clean(message, (raw_key,)) or 'no reason'}")


def _words(answer: Answer) -> tuple[str, str]:
    """Return type and message of an authentication error, empty when the body is anything else."""
    try:
        body = json_of(answer)
    except GatewayError:
        return "", ""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("type") or ""), str(error.get("message") or "")
