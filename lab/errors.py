"""The lab's own errors: one tree, each with a sentence for a person."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what was asked. The message says what is wrong and what to do about it.

    The command line prints the message on standard error and exits with `exit_code`; nobody gets
    a traceback for it.
    """

    exit_code = 1


class NotRunning(LabError):
    """There is no running lab of this name."""


class AlreadyRunning(LabError):
    """A lab of this name is running (or is just ending)."""


class NamespacesRefused(LabError):
    """The kernel does not let this user make the namespaces that a lab lives in."""


class BuildFailed(LabError):
    """A part could not be built or fetched."""


class StartFailed(LabError):
    """A part did not start, or ended while the lab was coming up."""
