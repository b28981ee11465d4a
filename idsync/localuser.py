"""Who a user of this machine is, as the kernel and the user database have it."""

from __future__ import annotations

import pwd


def user_name(uid: int) -> str:
    """Return the name of a user, or `uid N` where nobody has given it one (a container's)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def accountable(uid: int, claimed: object) -> str:
    """Return who is written down for what the user at the other end of the command socket does.

    The kernel says who it is. Root alone may add for whom it acts (`root (sudo by ada)`): root can become anybody anyway.
    """
    name = user_name(uid)
    told = claimed if isinstance(claimed, str) and claimed.isprintable() else ""
    return told if uid == 0 and told.startswith(f"{name} (sudo by ") else name
