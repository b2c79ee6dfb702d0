"""The operator's own configuration file: what the cluster's administrator alone may name.

Addresses and credentials live here and nowhere else; a custom resource names a provider, never a
URL.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    HttpUrl,
    StringConstraints,
    ValidationError,
    model_validator,
)

from phasegate.adapters.notifiers.settings import AnnounceConfig, NotifierConfig
from phasegate.adapters.routers.capabilities import Features
from phasegate.adapters.section import Section as _Model
from phasegate.adapters.unreadable import words
from phasegate.adapters.zones import IanaZones
from phasegate.api.base import Name, ObjectName
from phasegate.api.calendar import Freeze, Window
from phasegate.api.errors import ConfigError, InvalidSpec
from phasegate.api.quantities import parse_duration
from phasegate.rollout.calendar import Calendar
from phasegate.rollout.retention import Retention
from phasegate.rollout.schedule import calendar_of


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f"write it with its unit, such as {value}s")
    try:
        return parse_duration(value)
    except InvalidSpec as error:
        raise ValueError(str(error)) from error


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than 0s")
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_|~]+$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e]*$")]
_CREDENTIAL_HEADERS: Final = frozenset(
    ("authorization", "proxy-authorization", "cookie", "x-api-key")
)


class BasicAuth(_Model):
    """User name and password; the password is a file's content, read anew for each query."""

    username: Annotated[str, StringConstraints(min_length=1)]
    password_file: Path


class ProviderConfig(_Model):
    """One Prometheus-compatible store (Prometheus, Thanos, Mimir, VictoriaMetrics)."""

    url: HttpUrl
    """Base address: ``/api/v1/query`` is added to it. Credentials have no place in it."""
    bearer_token_file: Path | None = None
    basic: BasicAuth | None = None
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, repr=False)
    """Sent with every query: a tenant, for example. No credentials: they are files."""
    ca_file: Path | None = None
    """Who signed the provider's certificate, if nobody that this machine trusts anyway."""
    insecure_skip_tls_verify: bool = False
    """Talk to whoever answers. Anybody in between then reads the credentials and makes the
    evidence: for trials only."""
    timeout: Duration = timedelta(seconds=5)
    max_series: Annotated[int, Field(ge=1)] = 100_000
    max_response_mib: Annotated[int, Field(ge=1, le=1024, alias="maxResponseMiB")] = 32

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.bearer_token_file is not None and self.basic is not None:
            raise ValueError("give either bearerTokenFile or basic, not both")
        return self

    @model_validator(mode="after")
    def _credentials_are_kept(self) -> Self:
        """In files, which are rotated, and from who listens on the way."""
        if self.url.username or self.url.password:
            raise ValueError("url must not hold credentials: use basic, with a passwordFile")
        for name in self.headers:
            if name.lower() in _CREDENTIAL_HEADERS:
                raise ValueError(f"headers must not hold {name}: use bearerTokenFile or basic")
        if self.url.scheme != "https" and (self.bearer_token_file or self.basic):
            raise ValueError(
                "credentials are sent over https only, or all on the way could read them: "
                "write the url with https, or leave bearerTokenFile and basic out"
            )
        if self.url.scheme != "https" and (self.ca_file or self.insecure_skip_tls_verify):
            raise ValueError("caFile and insecureSkipTlsVerify have no meaning without https")
        return self


class RouterConfig(_Model):
    """What the gateways of one controller can do, where they themselves do not say (rightly)."""

    controller_name: Annotated[str, StringConstraints(min_length=1)]
    mirror: bool = False
    mirror_percent: bool = False
    backend_headers: bool = False


class RefreshConfig(_Model):
    """How often is looked at what did not announce itself."""

    rollout: Duration = timedelta(seconds=10)
    """Agents with a rollout in progress."""
    resync: Duration = timedelta(minutes=10)
    """All agents."""
    tick: Duration = timedelta(seconds=1)
    """Between two looks at the metrics of running rollouts, at most."""


class PricesConfig(_Model):
    """The ConfigMap with the price of tokens, for sources that report tokens and no money."""

    namespace: Name
    name: ObjectName
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = "prices.yaml"


def _as_written(value: Any) -> Any:
    """Dates as text: YAML reads them, and times of day without quotes as numbers."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, dict):
        for key in ("from", "to"):
            if isinstance(value.get(key), int):
                raise ValueError(f'{key}: write the time of day in quotes, such as "09:00"')
        return {key: _as_written(entry) for key, entry in value.items()}
    return [_as_written(entry) for entry in value] if isinstance(value, list) else value


class CalendarConfig(_Model):
    """Windows and freezes of all agents; an agent's own count as well."""

    windows: Annotated[tuple[Window, ...], Field(max_length=32)] = ()
    freezes: Annotated[tuple[Freeze, ...], Field(max_length=64)] = ()

    @model_validator(mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return _as_written(value)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        problem = self.calendar().problem
        if problem is not None:
            raise ValueError(problem)
        return self

    def calendar(self) -> Calendar:
        """The calendar that these make."""
        return calendar_of(self.windows, self.freezes, IanaZones(), "administrator", "calendar")


class RetentionConfig(_Model):
    """What `phasegate prune` keeps of every agent: all that one of these says."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = 20
    """Records of the newest attempts."""
    age: Duration = timedelta(days=90)
    """Records of attempts that ended since, and what people decided since."""

    def rule(self) -> Retention:
        """The same, for who decides."""
        return Retention(self.attempts, self.age)


class OperatorConfig(_Model):
    """The whole file."""

    providers: dict[Name, ProviderConfig] = Field(default_factory=dict)
    routers: tuple[RouterConfig, ...] = ()
    refresh: RefreshConfig = Field(default_factory=RefreshConfig)
    prices: PricesConfig | None = None
    retention: RetentionConfig = Field(default_factory=RetentionConfig)
    notifiers: Annotated[dict[Name, NotifierConfig], Field(max_length=64)] = Field(
        default_factory=dict
    )
    announce: AnnounceConfig = Field(default_factory=AnnounceConfig)
    calendar: CalendarConfig = Field(default_factory=CalendarConfig)

    @model_validator(mode="after")
    def _announced_somewhere(self) -> Self:
        for name in self.announce.default:
            if name not in self.notifiers:
                raise ValueError(f"announce.default names {name}, which is not in notifiers")
        return self

    def everybody(self) -> Calendar:
        """The administrator's calendar, which counts for every agent."""
        return self.calendar.calendar()

    def features(self) -> dict[str, Features]:
        """The administrator's word on gateways, by controllerName."""
        return {
            router.controller_name: Features(
                mirror=router.mirror,
                mirror_percent=router.mirror_percent,
                backend_headers=router.backend_headers,
                source="the operator's configuration",
            )
            for router in self.routers
        }


def load_config(path: Path) -> OperatorConfig:
    """Read the file; raises ConfigError with a sentence per mistake, naming the field."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-13-01
        raise ConfigError(f"The configuration {path} is not YAML: {words(error)}") from None
    try:
        return OperatorConfig.model_validate({} if content is None else content)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(path, error))) from error


def _sentences(path: Path, error: ValidationError) -> list[str]:
    sentences = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        where = ".".join(str(part) for part in detail["loc"] if part != "[key]") or "the file"
        sentences.append(f"{path}: {where}: {detail['msg'].removeprefix('Value error, ')}")
    return sentences
