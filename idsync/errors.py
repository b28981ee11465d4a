"""Every failure idsync knows, as a tree whose branches decide what happens next.

    IdsyncError                     exit 1
     +- ConfigError                 exit 2: all problems of a configuration at once, each with its path
     +- UsageError                  exit 2: the command asks for something that cannot be
     |   +- OtherConfiguration      it was meant by another configuration than the running daemon's
     +- NotFound                    exit 1: no such person, token, hold ...
     +- NameTaken                   exit 1: a userName or displayName that is in use within its source
     +- NeedsPerson                 exit 1: nothing may be guessed; a Conflict says how to settle it
     +- Superseded                  never leaves the engine: a newer generation was asked for meanwhile
     +- HeldByGuard                 exit 4
     +- StillAlive                  exit 5: a credential that should be dead works
     +- IncompleteSource            exit 6: a source did not answer in full; nothing was removed
     |   +- SourceUnreachable       no usable answer: time-outs, 429, 5xx
     |   +- SourceRefused           its credential or permissions are not accepted
     |   +- CursorLost              it has forgotten where we were: read everything anew
     +- StoreBusy                   exit 7: another process holds the store
     +- NotDelivered                exit 1: a notification that was not taken; tried again
     +- StoreError                  exit 1: the store cannot be used (newer schema, read-only, full)
     +- SinkFailed                  exit 1: a sink has not taken a secret, or nobody knows; the old key stays
     +- GatewayError                what the gateway made of a call
         +- Transient               try again later: no answer, 429, 5xx, an edge's HTML
         |   +- Throttled           and not before `retry_after` seconds
         +- AdminKeyRefused         401/403 for our own key: one alarm, one call a minute, no job given up
         +- Unsupported             the gateway has no such endpoint (404 path, 405 on every verb, licence)
         +- Rejected                it understood and said no (400, 409, 422)
         |   +- Missing             404: the object is not there
         |   +- Conflicting         409 or "already": it is there already
         +- BadAnswer               2xx with a body that is not what the contract says: never success
             +- UnaskedKey          a new user came with a key that nobody had asked for

Nobody reads the text of an error to decide: the class decides. The text is for people and holds no secret.
"""

from __future__ import annotations

EXIT_CODES = {
    0: "done, or nothing to do",
    1: "an error; the sentence on stderr says which",
    2: "wrong usage or configuration",
    3: "there are changes (`--dry-run`, `drift`)",
    4: "a guard holds something until a person decides",
    5: "a credential that should be dead may still work, or its end is not proven yet",
    6: "a source was unreachable or incomplete, its removals skipped; or the SCIM endpoint did not take what a drill pushed",
    7: "another process holds the store",
    130: "stopped at a question, or with Ctrl-C",
}
"""What a command's exit code says: for its help, its man page and the documentation."""


class IdsyncError(Exception):
    """Something went wrong."""

    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class ConfigError(IdsyncError):
    """The configuration is wrong."""

    exit_code = 2

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{path}: {what}" for path, what in problems))


class UsageError(IdsyncError):
    """The command cannot do that."""

    exit_code = 2


class OtherConfiguration(UsageError):
    """The running daemon goes by another configuration; nothing was done."""


class NotFound(IdsyncError):
    """There is nothing of that name."""


class NameTaken(IdsyncError):
    """The name is in use within its source."""


class NeedsPerson(IdsyncError):
    """Only a person can decide this."""

    def __init__(self, kind: str, message: str, remedy: str) -> None:
        self.kind = kind
        self.remedy = remedy
        super().__init__(message)


class Superseded(IdsyncError):
    """Somebody asked for a newer state of this person."""


class HeldByGuard(IdsyncError):
    """A guard holds this until a person approves it."""

    exit_code = 4


class StillAlive(IdsyncError):
    """A credential that should be dead still works."""

    exit_code = 5


class IncompleteSource(IdsyncError):
    """A source did not answer in full; nothing was removed."""

    exit_code = 6


class SourceUnreachable(IncompleteSource):
    """A source gave no usable answer; nothing was removed."""

    def __init__(self, message: str | None = None, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class SourceRefused(IncompleteSource):
    """A source refuses idsync's credential or permissions; nothing was removed."""

    def __init__(self, message: str | None = None, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class CursorLost(IncompleteSource):
    """A source has forgotten where idsync was; everything has to be read anew."""


class StoreBusy(IdsyncError):
    """Another process holds the store."""

    exit_code = 7


class NotDelivered(IdsyncError):
    """A notification was not delivered. `retry_after`: seconds the receiver asks to be left alone."""

    def __init__(self, message: str | None = None, *, retry_after: float = 0.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StoreError(IdsyncError):
    """The store cannot be used."""


class SinkFailed(IdsyncError):
    """A sink has not taken the secret, or nobody knows whether it has."""


class GatewayError(IdsyncError):
    """The gateway did not do what was asked."""

    def __init__(self, message: str | None = None, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class Transient(GatewayError):
    """No usable answer this time; the call may or may not have had its effect."""


class Throttled(Transient):
    """The gateway asks for fewer calls."""

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = None, status: int | None = 429
    ) -> None:
        self.retry_after = retry_after
        super().__init__(message, status=status)


class AdminKeyRefused(GatewayError):
    """The gateway refuses idsync's own admin key."""


class Unsupported(GatewayError):
    """This gateway has no such endpoint."""


class Rejected(GatewayError):
    """The gateway understood the call and refused it."""


class Missing(Rejected):
    """The gateway has no such object."""


class Conflicting(Rejected):
    """The gateway has it already."""


class BadAnswer(GatewayError):
    """The gateway answered 2xx with something that is not an answer."""


class UnaskedKey(BadAnswer):
    """The gateway made a key for a new user, unasked."""

    def __init__(self, key_id: str | None, *, deleted: bool) -> None:
        """`key_id` is None where the answer holds nothing but the secret; `deleted`: it has been told to end it."""
        self.key_id = key_id
        self.deleted = deleted
        end = "it was deleted" if deleted else "and it could not be deleted"
        super().__init__(f"the gateway made a key for a new user, unasked; {end}")
