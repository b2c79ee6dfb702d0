"""What the engine is fed: raw samples of raw series, as a range-vector selector returns them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

Arm = Literal["candidate", "baseline"]

VALUE_PREFIX = "threshold:"
"""``threshold:<metric>``: a series of this name carries a query's results, not a counter."""


@dataclass(frozen=True, slots=True)
class Series:
    """Raw samples of one raw series of one pod.

    `samples` are (scrape time in unix seconds, value). They may be out of order, duplicated, NaN,
    or overlap what was fed before.
    """

    arm: Arm
    name: str
    labels: tuple[tuple[str, str], ...]
    """Sorted, with the pod; the identity of the series within its arm."""
    samples: tuple[tuple[float, float], ...]
    late: bool = False
    """For late checks only: reviews go on when the pods they are about are gone, so they are no
    sign of life of the arm."""

    @property
    def key(self) -> str:
        """A short stable identity, so that stored state does not repeat every label."""
        text = repr((self.arm, self.name, self.labels)).encode()
        return hashlib.blake2b(text, digest_size=6).hexdigest()

    @property
    def target(self) -> str:
        """The scraped process: all of its series carry the same scrape times."""
        labels = dict(self.labels)
        return f"{self.arm}/{labels.get('pod') or labels.get('instance') or ''}"


def usable(at: float, value: float, *, counter: bool) -> bool:
    """False for what no process can have counted: NaN (also a stale marker), infinite, negative."""
    return math.isfinite(at) and math.isfinite(value) and not (counter and value < 0)
