"""Reads the answers of every look: the same series again and again, with other samples.

Of an answer nine parts in ten are labels that were read before. A series' labels are known again by
their bytes, so only samples are decoded. Whatever is not written exactly as Prometheus writes it is
left to the ordinary decoder; in JSON no text can hold an unescaped quote, so cutting at one is exact.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final, NamedTuple

_BEGIN: Final = b'{"status":"success","data":{"resultType":"matrix","result":['
_END: Final = b"]}}"
_SERIES: Final = b'{"metric":'
_VALUES: Final = b',"values":'
GENERATION: Final = 300.0
"""Seconds after which series that were not seen again are forgotten, twice at most."""


class Known(NamedTuple):
    """A series that was read before; `identity` is the same object every time."""

    identity: bytes
    name: str
    labels: Mapping[str, str]


Found = tuple[Known, list[tuple[float, float]]]


class MatrixReader:
    """Remembers series from answer to answer."""

    def __init__(self) -> None:
        self._young: dict[bytes, Known] = {}
        self._old: dict[bytes, Known] = {}
        self._since = -math.inf

    def read(self, body: bytes, now: float) -> list[Found] | None:
        """The series of an answer with their samples, those that are finite numbers.

        None: it is not of the usual form, nothing is said about it. Raises ValueError, TypeError,
        KeyError or AttributeError for what is no answer. `now`: seconds, of any clock.
        """
        body = body.rstrip(b" \t\r\n")  # what JSON takes for blank, and no other byte
        if not (body.startswith(_BEGIN) and body.endswith(_END)):
            return None
        if now - self._since > GENERATION:
            self._young, self._old, self._since = {}, self._young, now
        inner = body[len(_BEGIN) : -len(_END)]
        if not inner:
            return []
        if not inner.startswith(_SERIES) or b'"histogram' in inner:
            return None
        series, points = list[Known](), list[bytes]()
        for item in inner[len(_SERIES) :].split(b"," + _SERIES):
            labels, cut, values = item.partition(_VALUES)
            if not cut or not values.endswith(b"}"):
                return None
            series.append(self._known(labels))
            points.append(values[:-1])
        decoded = json.loads(b"[" + b",".join(points) + b"]")
        return [(known, _samples(samples)) for known, samples in zip(series, decoded, strict=True)]

    def _known(self, text: bytes) -> Known:
        known = self._young.get(text)
        if known is None:
            known = self._old.get(text) or _read(text)
            self._young[known.identity] = known
        return known


def _read(text: bytes) -> Known:
    """Names and values are shared among all series: there are few of them."""
    labels = {sys.intern(key): sys.intern(value) for key, value in json.loads(text).items()}
    return Known(text, labels.pop("__name__", ""), labels)


def _samples(points: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    return [(at + 0.0, value) for at, text in points if isfinite(value := float(text))]
