"""The errors of Phasegate, one tree.

PhasegateError
├── InvalidSpec        what a user wrote cannot be carried out; names the field and the fix
├── ClusterError       the API server refused or could not be reached
│   ├── NotFound       the object does not exist
│   ├── Conflict       somebody else wrote first; look again and retry
│   ├── Refused        the API server refuses the object itself; its own words
│   ├── Throttled      the API server has too much to do; says when to come back
│   └── Fenced         this process does not lead any more; nothing was sent
├── ProviderError      a metrics provider gave no usable answer: never a Pass, never a Fail
│   └── TooMuchData    its answer is larger than the operator takes at once
├── NotDelivered       a channel did not take a message, now or ever
└── ConfigError        the operator's own configuration is wrong
"""


class PhasegateError(Exception):
    """Root of every error that Phasegate raises on purpose."""


class InvalidSpec(PhasegateError):
    """What a user wrote cannot be carried out; the message names the field and the fix."""


class ClusterError(PhasegateError):
    """The API server refused a request or could not be reached."""


class NotFound(ClusterError):
    """The object does not exist (404)."""


class Conflict(ClusterError):
    """The object changed since it was read (409); look again and retry."""


class Refused(ClusterError):
    """The API server refuses the object itself (400, 403, 422); carries its own words."""


class Throttled(ClusterError):
    """The API server has too much to do (429, 503 with a Retry-After); later is better than now.

    `after`: seconds that it asks to wait.
    """

    def __init__(self, words: str, after: float) -> None:
        super().__init__(words)
        self.after = after


class Fenced(ClusterError):
    """A write was not sent, because another process may be leading by now."""


class ProviderError(PhasegateError):
    """A metrics provider gave no usable answer. Evidence that is missing is never a verdict."""


class TooMuchData(ProviderError):
    """An answer had more series or bytes than the operator takes at once: ask for less."""


class NotDelivered(PhasegateError):
    """A channel did not take a message. The words name no address: addresses may be secrets.

    `for_good`: it never will; otherwise it may, `after` seconds from now if it says so.
    """

    def __init__(self, words: str, *, for_good: bool = False, after: float = 0.0) -> None:
        super().__init__(words)
        self.for_good = for_good
        self.after = after


class ConfigError(PhasegateError):
    """The operator's own configuration is wrong; it does not start."""
