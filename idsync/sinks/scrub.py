"""What others said about a delivery, fit to be shown: short, on one line, and without any part of the secret."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from urllib.parse import quote

from idsync.logs import mask

PIECE = 6
"""So many characters of the secret in a row are not shown."""


def scrub(text: str, secret: str, limit: int) -> str:
    """Return at most `limit` characters of a text; the secret in it, or a piece of it, also in base64, hex or percent
    signs, becomes `***`.
    """
    plain = secret.encode("utf-8", "surrogatepass")
    forms = [secret, plain.hex(), quote(plain), repr(secret)[1:-1]]
    forms += [base64.b64encode(plain[skipped:]).decode().rstrip("=")[:-1] for skipped in range(3)]
    folded, hidden = text.lower(), bytearray(len(text))
    if len(folded) != len(text):
        return "***"
    for form in forms:
        _hide(folded, form.lower(), hidden)
    shown, last = [], 0
    for character, is_hidden in zip(text, hidden, strict=True):
        if not is_hidden:
            shown.append(character)
        elif not last:
            shown.append("***")
        last = is_hidden
    return mask(" ".join("".join(shown).split()))[:limit]


def scrub_all(text: str, secrets: Iterable[str], limit: int) -> str:
    """Return the same, without any part of several secrets."""
    for secret in secrets:
        text = scrub(text, secret, len(text) + limit)
    return text[:limit]


def _hide(text: str, secret: str, hidden: bytearray) -> None:
    """Mark every run of the text that is a piece of the secret."""
    size = min(PIECE, len(secret))
    for start in range(len(secret) - size + 1 if size else 0):
        piece = secret[start : start + size]
        at = text.find(piece)
        while at >= 0:
            hidden[at : at + size] = b"\1" * size
            at = text.find(piece, at + 1)
