"""A Prometheus-compatible store as a metrics provider: raw samples, all of them or an error."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from phasegate.adapters.config import ProviderConfig
from phasegate.api.errors import ConfigError, ProviderError
from phasegate.control.ports import RawSeries

CHUNK: Final = 900.0
"""Longest range (seconds) asked for at once: a new leader's gap must not make one huge answer."""
_MARGIN: Final = 0.9
"""The server is told to give up before we do: then it frees the query, and says why."""
_IN_THREAD: Final = 256 * 1024
"""Answers longer than this (bytes) are decoded outside the event loop."""
_ERROR_TYPES: Final = frozenset(
    ("timeout", "canceled", "execution", "bad_data", "internal", "unavailable", "not_found")
)


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
        deadline: float = 5.0,
        max_series: int = 100_000,
        max_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self.name = name
        self._client = client
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._credentials = credentials or Credentials()
        self._deadline = deadline
        self._max_series = max_series
        self._max_bytes = max_bytes

    @classmethod
    def connect(cls, name: str, config: ProviderConfig) -> PrometheusProvider:
        """A provider as the administrator configured it; raises ConfigError."""
        try:
            cafile = None if config.ca_file is None else str(config.ca_file)
            context = ssl.create_default_context(cafile=cafile)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"providers.{name}.caFile: {error}") from error
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
            deadline=config.timeout.total_seconds(),
            max_series=config.max_series,
            max_bytes=config.max_response_mib * 1024 * 1024,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def raw(self, selector: str, start: float, end: float) -> Sequence[RawSeries]:
        """Raw samples with their scrape times in (start, end], unix seconds; raises ProviderError.

        `selector` is an instant vector selector: it must not carry a range of its own.
        """
        found: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
        at = start
        while at < end:
            until = min(at + CHUNK, end)
            # One millisecond more, for stores whose ranges are open at the left: cut off below.
            window = math.ceil((until - at) * 1000) + 1
            result = await self._query(f"{selector}[{window}ms]", until, "matrix")
            for labels, samples in result:
                kept = [sample for sample in samples if at < sample[0] <= until]
                if kept:
                    found.setdefault(tuple(sorted(labels.items())), []).extend(kept)
            at = until
        return [_series(dict(labels), samples) for labels, samples in found.items()]

    async def instant(self, query: str, at: float) -> Sequence[RawSeries]:
        """Value of a PromQL expression at one time (unix seconds); raises ProviderError."""
        result = await self._query(query, at, "vector", "scalar")
        return [_series(labels, samples) for labels, samples in result if samples]

    async def _query(self, query: str, at: float, *expected: str) -> list[_Result]:
        answer = await self._answer(query, at)
        try:
            if answer["status"] != "success":
                raise self._error("the query failed")
            if answer.get("warnings"):
                raise self._error("the answer is not whole (it came with warnings)")
            data = answer["data"]
            if data["resultType"] not in expected:
                raise self._error(f"the answer is no {' or '.join(expected)}")
            items = data["result"]
            if data["resultType"] == "scalar":
                items = [{"metric": {}, "value": items}]
            if len(items) > self._max_series:
                raise self._error(f"more than {self._max_series} series")
            return [_result(item) for item in items]
        except _NativeHistogram:
            raise self._error(
                "native histograms are not supported: name a classic series"
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._error("the answer is not that of a Prometheus API") from None

    async def _answer(self, query: str, at: float) -> Any:
        form = {
            "query": query,
            "time": _milliseconds(at),
            "timeout": f"{self._deadline * _MARGIN * 1000:.0f}ms",
            "limit": str(self._max_series),  # truncation shows as a warning
            "partial_response": "false",  # Thanos
        }
        try:
            async with asyncio.timeout(self._deadline):
                status, body = await self._exchange(form)
                if status != 200:
                    raise self._error(_reason(status, body))
                return await _decode(body)
        except (TimeoutError, httpx.TimeoutException):
            raise self._error(f"no answer within {self._deadline:g} s") from None
        except httpx.HTTPError as error:
            raise self._error(f"not reachable ({type(error).__name__})") from None
        except OSError as error:
            raise self._error(f"credentials not readable ({error.strerror})") from None
        except ValueError:
            raise self._error("the answer is not JSON") from None

    async def _exchange(self, form: Mapping[str, str]) -> tuple[int, bytes]:
        body = bytearray()
        async with self._client.stream(
            "POST",
            self._url,
            data=form,
            headers=self._credentials.request_headers(),
            timeout=self._deadline,
        ) as response:
            async for part in response.aiter_bytes():
                body += part
                if len(body) > self._max_bytes:
                    raise self._error(f"the answer is longer than {self._max_bytes} bytes")
            return response.status_code, bytes(body)

    def _error(self, reason: str) -> ProviderError:
        return ProviderError(f"metrics provider {self.name}: {reason}")


class _NativeHistogram(Exception):
    """A series of histograms where numbers were expected."""


_Result = tuple[dict[str, str], list[tuple[float, float]]]


async def _decode(body: bytes) -> Any:
    if len(body) < _IN_THREAD:
        return json.loads(body)
    return await asyncio.to_thread(json.loads, body)


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


def _numbers(points: Iterable[Sequence[Any]]) -> Iterable[tuple[float, float]]:
    for at, text in points:
        value = float(text)
        if math.isfinite(value):
            yield float(at), value


def _series(labels: dict[str, str], samples: list[tuple[float, float]]) -> RawSeries:
    name = labels.pop("__name__", "")
    return RawSeries(name, labels, tuple(samples))
