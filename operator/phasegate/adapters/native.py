"""Native histograms as the classic series of the same counts, so that the engine sees only these.

The HTTP API writes a sample as ``[time, {"count", "sum", "buckets": [[rule, left, right, count],
…]}]`` and leaves empty buckets out (https://prometheus.io/docs/prometheus/latest/querying/api/).
Edges of schema n are powers of 2^(2^-n), so those of coarser schemas are among those of finer ones.
A classic series has to exist before its bucket is hit, otherwise its first value looks like calls
that have just been made; so edges do not follow the data, but one grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

Samples = list[tuple[float, float]]
Classic = tuple[dict[str, str], Samples]

_QUARTERS: Final = (*range(-40, -16, 4), *range(-16, 33), *range(36, 49, 4))
"""Edges as powers of 2^(1/4): fine (x1.19) from 62 ms to 256 s, and x2 from 1 ms to 4096 s."""
_MILLISECONDS: Final = 40
"""The same edges of a histogram in milliseconds: 2^10 is near enough to 1000."""
_NEAR: Final = 1e-6
"""Borders are written in decimal: how much they may be off."""


def classic(labels: Mapping[str, str], points: Iterable[Sequence[Any]]) -> list[Classic]:
    """``_bucket``, ``_count`` and ``_sum`` of one native histogram; ValueError if it is none.

    Edges that a sample's schema does not have are left out of it. Histograms with borders of their
    own (schema -53, converted classic ones) do not tell them: they only have a count and a sum.
    """
    name = labels["__name__"]
    shift = _MILLISECONDS if name.endswith(("_milliseconds", "_ms")) else 0
    counts: Samples = []
    sums: Samples = []
    whole: Samples = []
    buckets: dict[int, Samples] = {}
    for at_text, sample in points:
        at, count, total = float(at_text), float(sample["count"]), float(sample["sum"])
        if not math.isfinite(count):
            continue
        counts.append((at, count))
        if math.isfinite(total):
            sums.append((at, total))
        edges = list(_below(sample.get("buckets", ()), shift))
        if edges:
            whole.append((at, count))
        for quarter, below in edges:
            buckets.setdefault(quarter, []).append((at, below))
    rest = {key: value for key, value in labels.items() if key != "__name__"}
    found = [
        ({"__name__": f"{name}_bucket", **rest, "le": f"{2 ** (quarter / 4):.6g}"}, samples)
        for quarter, samples in buckets.items()
    ]
    if whole:
        found.append(({"__name__": f"{name}_bucket", **rest, "le": "+Inf"}, whole))
    found.append(({"__name__": f"{name}_count", **rest}, counts))
    found.append(({"__name__": f"{name}_sum", **rest}, sums))
    return found


def beside(native: Iterable[Classic], present: Iterable[Classic]) -> list[Classic]:
    """The converted series of those histograms that are not scraped in both forms."""
    known = {_histogram(labels) for labels, _ in present}
    return [(labels, samples) for labels, samples in native if _histogram(labels) not in known]


def _histogram(labels: Mapping[str, str]) -> tuple[str, frozenset[tuple[str, str]]]:
    name = labels.get("__name__", "")
    rest = frozenset(pair for pair in labels.items() if pair[0] not in ("__name__", "le"))
    return name, rest


def _below(buckets: Sequence[Sequence[Any]], shift: int) -> Iterable[tuple[int, float]]:
    """Calls at or below each edge of the grid that the sample's schema has, by quarter."""
    borders = [(float(left), float(right), float(count)) for _, left, right, count in buckets]
    step = _step([(left, right) for left, right, _ in borders if left > 0])
    if step is None:
        return
    borders.sort(key=lambda border: border[1])
    place, below = 0, 0.0
    for quarter in _QUARTERS:
        if (quarter + shift) % step:
            continue
        edge = 2 ** ((quarter + shift) / 4) * (1 + _NEAR)
        while place < len(borders) and borders[place][1] <= edge:
            below += borders[place][2]
            place += 1
        yield quarter + shift, below


def _step(borders: Sequence[tuple[float, float]]) -> int | None:
    """Quarters from an edge of the schema to the next, at least one; None: it is none of powers."""
    step = 1
    for left, right in borders:
        if math.isinf(right):
            return None
        quarters = 4 * math.log2(right / left)
        width = 2.0 ** round(math.log2(quarters)) if quarters > 0 else 0.0
        place = 4 * math.log2(right) / width if width else 0.5
        if not width or abs(quarters - width) > _NEAR * 8 or abs(place - round(place)) > 1e-3:
            return None
        step = max(step, round(width))
    return step
