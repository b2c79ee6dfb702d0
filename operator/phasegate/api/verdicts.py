"""How a verdict is written into a status; shared by several kinds."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from phasegate.api.base import KeptModel, Message, ShortText

VerdictName = Literal["Pass", "Fail", "Inconclusive"]


class CheckSummary(KeptModel):
    """One check's verdict with its numbers in one sentence; an API has no floats, only strings."""

    name: ShortText
    """The metric's name, with a suffix where one metric is judged in several ways."""
    level: Literal["rollback", "gate", "alert", "info"]
    verdict: VerdictName
    reason: ShortText
    message: Message
    estimate: ShortText | None = None
    interval: ShortText | None = None
    """95 % anytime-valid interval of the estimate: ``0.012..0.034``."""
    limit: ShortText | None = None
    odds: ShortText | None = None
    """Evidence against chance, to one."""
    since: AwareDatetime | None = None
