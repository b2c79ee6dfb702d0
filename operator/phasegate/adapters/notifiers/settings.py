"""``notifiers`` in the operator's configuration. What is secret is a file's content, never inline."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, HttpUrl, StringConstraints, model_validator

from phasegate.adapters.section import Section
from phasegate.api.base import Name
from phasegate.rollout.news import Severity

Address = Annotated[
    str,
    StringConstraints(
        max_length=254,
        pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$",
    ),
]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:-]+$")]
HTTPS_ONLY = "messages are sent over https only, but on this machine: write it with https"


def is_loopback(host: str | None) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return host is not None and ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_problem(url: HttpUrl) -> str | None:
    """Why nothing is sent to `url`; None if it may be."""
    if url.scheme != "https" and not is_loopback(url.host):
        return HTTPS_ONLY
    return None


class _Notifier(Section):
    at_least: Severity = "Info"
    """Info: everything. Warning, Critical: only what is as urgent, and how that ended."""
    namespaces: Annotated[tuple[Name, ...], Field(max_length=256)] = ()
    """Agents of these may name it; of all, if left out."""
    ca_file: Path | None = None
    """Who signed the channel's certificate, if nobody that this machine trusts anyway."""


class _Plain(_Notifier):
    """An address that is no secret by itself."""

    url: HttpUrl
    bearer_token_file: Path | None = None

    @model_validator(mode="after")
    def _no_secrets(self) -> Self:
        if self.url.username or self.url.password or self.url.query:
            raise ValueError("url must not hold credentials: use bearerTokenFile")
        problem = address_problem(self.url)
        if problem is not None:
            raise ValueError(f"url: {problem}")
        return self


class SlackConfig(_Notifier):
    """An incoming webhook of Slack (or of Mattermost, which takes the same)."""

    kind: Literal["slack"]
    url_file: Path
    """The webhook's address: who knows it can post."""


class TeamsConfig(_Notifier):
    """A workflow of Microsoft Teams that posts what its webhook gets."""

    kind: Literal["teams"]
    url_file: Path


class PagerDutyConfig(_Notifier):
    """An integration of kind Events API v2."""

    kind: Literal["pagerduty"]
    routing_key_file: Path
    url: HttpUrl = HttpUrl("https://events.pagerduty.com/v2/enqueue")
    at_least: Severity = "Warning"

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        problem = address_problem(self.url)
        if problem is not None:
            raise ValueError(f"url: {problem}")
        if self.at_least == "Info":
            raise ValueError("atLeast must be Warning or Critical: every event pages somebody")
        return self


class WebhookConfig(_Plain):
    """Anything that takes a POST with JSON."""

    kind: Literal["webhook"]


class AlertmanagerConfig(_Plain):
    """Alertmanager's API v2; ``/api/v2/alerts`` is added to its address."""

    kind: Literal["alertmanager"]


class EmailConfig(_Notifier):
    """A mail server that takes mails from us."""

    kind: Literal["email"]
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    tls: Literal["StartTLS", "Implicit", "None"] = "StartTLS"
    username: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    password_file: Path | None = None
    sender: Annotated[Address, Field(alias="from")]
    to: Annotated[tuple[Address, ...], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("give both username and passwordFile, or neither")
        if self.tls == "None" and not is_loopback(self.host):
            raise ValueError("tls: None is for a server on this machine: use StartTLS or Implicit")
        return self


NotifierConfig = Annotated[
    SlackConfig | TeamsConfig | PagerDutyConfig | WebhookConfig | AlertmanagerConfig | EmailConfig,
    Field(discriminator="kind"),
]


class AnnounceConfig(Section):
    """Where announcements go by default."""

    default: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Notifiers of agents that name none."""
