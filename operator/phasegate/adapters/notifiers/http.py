"""Channels that take JSON by HTTP POST: Slack, Teams, PagerDuty, Alertmanager, webhooks."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import HttpUrl, TypeAdapter, ValidationError

from phasegate.adapters.notifiers import bodies
from phasegate.adapters.notifiers.settings import (
    AlertmanagerConfig,
    PagerDutyConfig,
    SlackConfig,
    TeamsConfig,
    WebhookConfig,
    address_problem,
)
from phasegate.api.errors import NotDelivered
from phasegate.control.outbox import Notification

DEADLINE: Final = 10.0
"""Seconds for one message, all of its requests and answers."""
_URL: Final = TypeAdapter(HttpUrl)
_PASSING: Final = frozenset((401, 403, 408, 425, 429))
"""Refusals that may pass: secrets are rotated, limits are lifted."""

HttpConfig = SlackConfig | TeamsConfig | PagerDutyConfig | WebhookConfig | AlertmanagerConfig


@dataclass(frozen=True, slots=True)
class Post:
    """One request."""

    url: str = field(repr=False)
    json: Any
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


Compose = Callable[[Notification], Iterable[Post]]


class HttpChannel:
    """`phasegate.control.outbox.Channel` by HTTP. Files are read for each message: they are rotated.

    What goes wrong is told without address and answer: the one may be a secret, the other anything.
    """

    def __init__(self, compose: Compose, client: httpx.AsyncClient, deadline: float = DEADLINE):
        self._compose = compose
        self._client = client
        self._deadline = deadline

    @classmethod
    def connect(cls, config: HttpConfig, context: ssl.SSLContext) -> HttpChannel:
        """A channel as the administrator configured it."""
        client = httpx.AsyncClient(
            verify=context,
            follow_redirects=False,  # the address is the configured one
            trust_env=False,
            timeout=DEADLINE,
            limits=httpx.Limits(max_connections=2, max_keepalive_connections=1),
        )
        return cls(composing(config), client)

    async def send(self, note: Notification) -> None:
        """Deliver it; raises NotDelivered."""
        try:
            async with asyncio.timeout(self._deadline):
                for post in self._compose(note):
                    await self._post(post)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._deadline:g} s") from None
        except httpx.HTTPError as error:
            raise NotDelivered(f"the channel cannot be reached ({type(error).__name__})") from None
        except OSError as error:
            words = error.strerror or type(error).__name__
            raise NotDelivered(f"its secret cannot be read: {words}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _post(self, post: Post) -> None:
        sending = self._client.stream("POST", post.url, json=post.json, headers=post.headers)
        async with sending as response:  # what it says is not read: it may never end
            status = response.status_code
        if 200 <= status < 300:
            return
        refused = 300 <= status < 500 and status not in _PASSING
        raise NotDelivered(
            f"answered with {status}", for_good=refused, after=_retry_after(response)
        )


def composing(config: HttpConfig) -> Compose:
    """What a notifier of this kind sends."""
    match config:
        case SlackConfig():
            return lambda note: [Post(_secret_url(config.url_file), bodies.slack(note))]
        case TeamsConfig():
            return lambda note: [Post(_secret_url(config.url_file), bodies.teams(note))]
        case PagerDutyConfig():
            return lambda note: [
                Post(str(config.url), event)
                for event in bodies.pagerduty(note, _secret(config.routing_key_file))
            ]
        case WebhookConfig():
            return lambda note: [
                Post(
                    str(config.url),
                    bodies.webhook(note),
                    {"Idempotency-Key": note.id, **_bearer(config)},
                )
            ]
        case AlertmanagerConfig():
            url = f"{str(config.url).rstrip('/')}/api/v2/alerts"
            return lambda note: [Post(url, bodies.alertmanager(note), _bearer(config))]


def _bearer(config: WebhookConfig | AlertmanagerConfig) -> dict[str, str]:
    if config.bearer_token_file is None:
        return {}
    return {"Authorization": f"Bearer {_secret(config.bearer_token_file)}"}


def _secret(file: Path) -> str:
    """The content of `file`; raises OSError, or NotDelivered if it cannot be a secret."""
    text = file.read_text("utf-8", errors="replace").strip()
    if not text or not text.isascii() or not text.isprintable():
        raise NotDelivered("its secret's file does not hold one line of text")
    return text


def _secret_url(file: Path) -> str:
    try:
        url = _URL.validate_python(_secret(file))
    except ValidationError:
        raise NotDelivered("its urlFile does not hold an address") from None
    problem = address_problem(url)
    if problem is not None:
        raise NotDelivered(problem)
    return str(url)


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the channel asks for; dates count as none."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdecimal() and len(said) < 6 else 0.0
