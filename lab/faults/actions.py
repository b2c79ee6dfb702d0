"""What can be done to a request on its way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.faults.requests import Seen


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer in the API server's place; it never hears of the request."""

    status: int
    message: str = "a fault of the test's"
    headers: Mapping[str, str] = field(default_factory=dict)
    """Such as `Retry-After`."""
    reason: str = ""
    """Word of the Status object; the usual one of the HTTP status if left out."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request and never answer; cut off when the rule is removed.

    With `forwarded` the API server gets it and acts, and only its answer is withheld.
    """

    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Delay:
    """Forward after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection at once, open watches included.

    With `forwarded` the API server gets the request and acts, and its answer is lost.
    """

    forwarded: bool = False


@dataclass(frozen=True, slots=True)
class Silence:
    """Watches, open ones included, stay open and say nothing any more, not even that they end.

    A stream that fell silent stays so when the rule is removed, as a dead connection does, until it
    is `Cut`; the next watch is a new one.
    """


@dataclass(frozen=True, slots=True)
class Expire:
    """Watches, open ones included, end with the event that says 410 Expired."""


@dataclass(frozen=True, slots=True)
class Call:
    """Run a function before the request is forwarded, or when it was answered but not delivered.

    It runs on the proxy's own thread: nothing passes the proxy meanwhile, and it must not use the
    proxy itself. If `before` returns False the request is cut off instead of forwarded, if `after`
    does, the answer is lost.
    """

    before: Callable[[Seen], object] | None = None
    after: Callable[[Seen], object] | None = None


Action = Answer | Hang | Delay | Cut | Silence | Expire | Call
