"""A Prometheus-compatible store as a metrics provider: raw samples, all of them or an error."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from phasegate.adapters.config import ProviderConfig
from phasegate.adapters.matrix import MatrixReader
from phasegate.adapters.native import beside, classic
from phasegate.api.errors import ConfigError, ProviderError, TooMuchData
from phasegate.control.ports import RawSeries

CHUNK: Final = 900.0
"""Longest range (seconds) asked for at once: a new leader's gap must not make one huge answer."""
MAX_POINTS: Final = 10_000
"""Points of a stepped query asked for at once: Prometheus refuses more than 11,000."""
MAX_SKEW: Final = 60.0
"""Seconds by which the provider's clock may differ from ours: its samples would be too old, or of
a time to come."""
_RECENT: Final = 60.0
"""Seconds for which a store may hold back what it has in answers about ranges."""
_MARGIN: Final = 0.9
"""The server is told to give up before we do: then it frees the query, and says why."""
_IN_THREAD: Final = 256 * 1024
"""Answers longer than this (bytes) are decoded outside the event loop."""
_ERROR_TYPES: Final = frozenset(
    ("timeout", "canceled", "execution", "bad_data", "internal", "unavailable", "not_found")
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the provider. Files are read for each query: their content is rotated."""

    bearer_token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def request_headers(self) -> dict[str, str]:
        """Headers of one request; raises OSError."""
        headers = dict(self.headers)
        if self.bearer_token_file is not None:
            headers["Authorization"] = f"Bearer {self.bearer_token_file.read_text().strip()}"
        elif self.username is not None and self.password_file is not None:
            pair = f"{self.username}:{self.password_file.read_text().strip()}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        return headers


@dataclass(frozen=True, slots=True)
class Limits:
    """What one question may take: seconds, series, bytes of its answer."""

    deadline: float = 5.0
    max_series: int = 100_000
    max_bytes: int = 32 * 1024 * 1024


class PrometheusProvider:
    """`phasegate.control.ports.MetricsProvider` on the HTTP API, version 1.

    An answer counts only if it is whole: a warning (Thanos' partial answers, a truncated result),
    an unknown form, too many series or bytes, or any HTTP error is a ProviderError. Its message is
    ours alone: what the other side wrote may hold anything. Samples that are not finite numbers
    are no data and left out.
    """

    def __init__(
        self,
        name: str,
        client: httpx.AsyncClient,
        *,
        url: str,
        credentials: Credentials | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._client = client
        self._url = f"{url.rstrip('/')}/api/v1/"
        self._credentials = credentials or Credentials()
        self._limits = limits or Limits()
        self._clock = clock
        self._reader = MatrixReader()

    @classmethod
    def connect(cls, name: str, config: ProviderConfig) -> PrometheusProvider:
        """A provider as the administrator configured it; raises ConfigError."""
        try:
            cafile = None if config.ca_file is None else str(config.ca_file)
            context = ssl.create_default_context(cafile=cafile)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"providers.{name}.caFile: {error}") from error
        if config.insecure_skip_tls_verify:
            _log.warning("the provider's certificate is not verified", extra={"provider": name})
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = httpx.AsyncClient(
            verify=context,
            follow_redirects=False,  # credentials go to the configured address only
            trust_env=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=8),
        )
        basic = config.basic
        return cls(
            name,
            client,
            url=str(config.url),
            credentials=Credentials(
                bearer_token_file=config.bearer_token_file,
                username=basic.username if basic else None,
                password_file=basic.password_file if basic else None,
                headers=config.headers,
            ),
            limits=Limits(
                deadline=config.timeout.total_seconds(),
                max_series=config.max_series,
                max_bytes=config.max_response_mib * 1024 * 1024,
            ),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        """Raw samples with their scrape times in (start, end], unix seconds; raises ProviderError.

        `selector` is an instant vector selector: it must not carry a range of its own.
        """
        found: dict[Hashable, RawSeries] = {}
        at = start
        while at < end:
            until = min(at + CHUNK, end)
            # One millisecond more, for stores whose ranges are open at the left: cut off below.
            window = math.ceil((until - at) * 1000) + 1
            query = {"query": f"{selector}[{window}ms]", "time": _milliseconds(until)}
            for (identity, name, labels), samples in await self._matrix(query):
                kept = samples
                if samples and not at < samples[0][0] <= samples[-1][0] <= until:
                    kept = [sample for sample in samples if at < sample[0] <= until]
                if kept and (before := found.get(identity)) is not None:
                    kept = [*before.samples, *kept]
                if kept:
                    found[identity] = RawSeries(name, labels, tuple(kept), identity)
            at = until
        return list(found.values())

    async def instant(self, query: str, at: float) -> Sequence[RawSeries]:
        """Value of a PromQL expression at one time (unix seconds); raises ProviderError."""
        # VictoriaMetrics without `nocache` says what was true half a minute ago.
        form = {"query": query, "time": _milliseconds(at), "nocache": "1"}
        result = await self._query("query", form, "vector", "scalar")
        return [_series(labels, samples) for labels, samples in result if samples]

    async def stepped(
        self, query: str, start: float, end: float, step: float
    ) -> Sequence[RawSeries]:
        """Values of a PromQL expression at start, start + step, … end; raises ProviderError.

        Times are unix seconds. What has no value at a time has no sample there. The newest times
        are asked for one by one: VictoriaMetrics leaves the last half minute out of ranges.
        """
        found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        recent = self._clock() - _RECENT
        older = [at for at in _steps(start, end, step) if at < recent]
        for first in range(0, len(older), MAX_POINTS):
            piece = older[first : first + MAX_POINTS]
            form = {
                "query": query,
                "start": _milliseconds(piece[0]),
                "end": _milliseconds(piece[-1]),
                "step": f"{step:.3f}",
            }
            for labels, samples in await self._query("query_range", form, "matrix"):
                found.setdefault(tuple(labels.items()), []).extend(samples)
        for at in _steps(start, end, step)[len(older) :]:
            for series in await self.instant(query, at):
                labels = {"__name__": series.name} if series.name else {}
                labels |= series.labels
                found.setdefault(tuple(labels.items()), []).extend(series.samples)
        return [_series(dict(labels), samples) for labels, samples in found.items() if samples]

    async def _matrix(self, form: Mapping[str, str]) -> list[_Found]:
        """Series of raw samples; histograms as the classic series of the same counts."""
        body = await self._answer("query", form)
        try:
            known = await _beside(body, lambda: self._reader.read(body, self._clock()))
        except (KeyError, TypeError, ValueError, AttributeError):
            known = None  # the ordinary way finds the words for what is wrong
        if known is not None:
            if len(known) > self._limits.max_series:
                raise self._too_much(f"more than {self._limits.max_series} series")
            if len({series.identity for series, _ in known}) < len(known):
                raise self._error("the answer names a series twice")
            return [((series.identity, series.name, series.labels), s) for series, s in known]
        found: list[_Found] = []
        for labels, samples in await self._read(body, "matrix", native=True):
            rest = {key: value for key, value in labels.items() if key != "__name__"}
            found.append(((tuple(labels.items()), labels.get("__name__", ""), rest), samples))
        return found

    async def _query(self, path: str, form: Mapping[str, str], *expected: str) -> list[_Result]:
        return await self._read(await self._answer(path, form), *expected)

    async def _read(self, body: bytes, *expected: str, native: bool = False) -> list[_Result]:
        """Series of an answer; `native`: histograms as the classic series of the same counts."""
        try:
            answer = await _beside(body, lambda: json.loads(body))
        except ValueError:
            raise self._error("the answer is not JSON") from None
        try:
            if answer["status"] != "success":
                raise self._error("the query failed")
            data = answer["data"]
            if data["resultType"] not in expected:
                raise self._error(f"the answer is no {' or '.join(expected)}")
            items = data["result"]
            if data["resultType"] == "scalar":
                items = [{"metric": {}, "value": items}]
            if len(items) > self._limits.max_series:
                raise self._too_much(f"more than {self._limits.max_series} series")
            if answer.get("warnings"):
                raise self._error("the answer is not whole (it came with warnings)")
            histograms = [item for item in items if native and "histograms" in item]
            plain = [item for item in items if not (native and "histograms" in item)]
            results = [_result(item) for item in plain]
            if len({tuple(labels.items()) for labels, _ in results}) < len(results):
                raise self._error("the answer names a series twice")
            return [*results, *_converted(histograms, results)]
        except _NativeHistogram:
            raise self._error(
                "the value is a histogram: make it a number, for example by histogram_quantile"
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._error("the answer is not that of a Prometheus API") from None

    async def _answer(self, path: str, query: Mapping[str, str]) -> bytes:
        form = {
            **query,
            "timeout": f"{self._limits.deadline * _MARGIN * 1000:.0f}ms",
            # One more than we take: told from an answer that was cut off.
            "limit": str(self._limits.max_series + 1),
            "partial_response": "false",  # Thanos
        }
        try:
            async with asyncio.timeout(self._limits.deadline):
                status, body = await self._exchange(path, form)
                if status != 200:
                    raise self._error(_reason(status, body))
                return body
        except (TimeoutError, httpx.TimeoutException):
            raise self._error(f"no answer within {self._limits.deadline:g} s") from None
        except httpx.HTTPError as error:
            raise self._error(f"not reachable ({type(error).__name__})") from None
        except OSError as error:
            raise self._error(f"credentials not readable ({error.strerror})") from None
        except ValueError:
            raise self._error("credentials not readable (not text)") from None

    async def _exchange(self, path: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        body = bytearray()
        async with self._client.stream(
            "POST",
            self._url + path,
            data=form,
            headers=self._credentials.request_headers(),
            timeout=self._limits.deadline,
        ) as response:
            async for part in response.aiter_bytes():
                body += part
                if len(body) > self._limits.max_bytes:
                    raise self._too_much(
                        f"the answer is longer than {self._limits.max_bytes} bytes"
                    )
            if response.status_code == 200:
                self._check_clock(response.headers.get("date", ""))
            return response.status_code, bytes(body)

    def _check_clock(self, date: str) -> None:
        """Compare the answer's Date (whole seconds) with our clock; without one nothing is known."""
        try:
            ahead = parsedate_to_datetime(date).timestamp() - self._clock()
        except (TypeError, ValueError):
            return
        if abs(ahead) > MAX_SKEW:
            side = "ahead of" if ahead > 0 else "behind"
            raise self._error(
                f"its clock is {abs(ahead):.0f} s {side} the operator's; set both by NTP"
            )

    def _too_much(self, reason: str) -> TooMuchData:
        return TooMuchData(f"metrics provider {self.name}: {reason}")

    def _error(self, reason: str) -> ProviderError:
        return ProviderError(f"metrics provider {self.name}: {reason}")


class _NativeHistogram(Exception):
    """A series of histograms where numbers were expected."""


_Result = tuple[dict[str, str], list[tuple[float, float]]]
_Found = tuple[tuple[Hashable, str, Mapping[str, str]], list[tuple[float, float]]]
"""What a raw series is known by, its name and labels; its samples."""
_T = TypeVar("_T")


async def _beside(body: bytes, decode: Callable[[], _T]) -> _T:
    """Decode an answer; a long one beside the event loop."""
    return decode() if len(body) < _IN_THREAD else await asyncio.to_thread(decode)


def _steps(start: float, end: float, step: float) -> list[float]:
    """start, start + step, … up to end, which may be off by rounding."""
    return [start + n * step for n in range(math.floor((end - start) / step + 1e-6) + 1)]


def _milliseconds(at: float) -> str:
    """Unix seconds cut to whole milliseconds, which is what stores keep; .001 ms for rounding."""
    return f"{math.floor(at * 1000 + 0.001) / 1000:.3f}"


def _reason(status: int, body: bytes) -> str:
    """Status and error type; the latter only if it is one of the API's own words."""
    if 300 <= status < 400:
        return f"HTTP {status}: it redirects, which is not followed; correct the url"
    try:
        kind = json.loads(body)["errorType"]
    except (ValueError, KeyError, TypeError):
        kind = None
    return f"HTTP {status} ({kind})" if kind in _ERROR_TYPES else f"HTTP {status}"


def _result(item: Mapping[str, Any]) -> _Result:
    if "histogram" in item or "histograms" in item:
        raise _NativeHistogram
    labels = {str(key): str(value) for key, value in item["metric"].items()}
    points = item["values"] if "values" in item else [item["value"]]
    return labels, list(_numbers(points))


def _converted(items: Iterable[Mapping[str, Any]], present: Iterable[_Result]) -> list[_Result]:
    found = []
    for item in items:
        labels = {str(key): str(value) for key, value in item["metric"].items()}
        found += classic(labels, item["histograms"])
    return beside(found, present)


def _numbers(points: Iterable[Sequence[Any]]) -> Iterable[tuple[float, float]]:
    for at, text in points:
        value = float(text)
        if math.isfinite(value):
            yield float(at), value


def _series(labels: dict[str, str], samples: list[tuple[float, float]]) -> RawSeries:
    name = labels.pop("__name__", "")
    return RawSeries(name, labels, tuple(samples))
