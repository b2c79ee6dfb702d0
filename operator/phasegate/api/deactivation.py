"""Switched off: who answers instead of an agent, and who said so."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from phasegate.api.base import Message, ObjectName, Person, SpecModel, StatusModel


class FallbackService(SpecModel):
    """A Service in the agent's namespace."""

    name: ObjectName
    port: Annotated[int, Field(ge=1, le=65535)]


class Fallback(SpecModel):
    """Who answers while the agent is deactivated (verb KillSwitch)."""

    service: FallbackService
    """Not one of an agent's: it must not depend on what was switched off."""


class Word(StatusModel):
    """What a person said, and when it was taken up."""

    by: Person
    reason: Message
    at: AwareDatetime


class Deactivated(StatusModel):
    """A person's KillSwitch, in force until no request is kept from the agent any more."""

    by: Person
    reason: Message
    at: AwareDatetime
    resumed: Word | None = None
    """Users go back as soon as the pods of the stable revision are ready."""
