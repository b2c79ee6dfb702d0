"""What a source counts up: money, tokens, points of a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from phasegate.engine.selectors import Selector


@dataclass(frozen=True, slots=True)
class Amount:
    """The sum of several counters, times `scale`.

    Emitters name the same thing differently: `ways` are alternatives, each a sum of series. Where
    an emitter writes several of them, the largest counts, so nothing is counted twice.
    """

    ways: tuple[tuple[Selector, ...], ...]
    scale: float = 1.0
    gaps: tuple[Selector, ...] = ()
    """Counters by which the source itself says that the sum lacks something: calls of no known
    price. They add nothing."""

    @classmethod
    def of(cls, *selectors: Selector, scale: float = 1.0) -> Amount:
        """The sum of these series, with no other way to write it."""
        return cls((selectors,), scale)

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched."""
        return (*(selector for way in self.ways for selector in way), *self.gaps)

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The selectors a series belongs to, as text."""
        return tuple(str(s) for s in self.selectors() if s.accepts(name, labels))

    def value(self, increments: Mapping[str, float], at: float) -> float:
        """The amount that increments by part add up to, seen at a time (unix seconds)."""
        sums = (sum(increments.get(str(part), 0.0) for part in way) for way in self.ways)
        return self.scale * max(sums)

    def unknown(self, increments: Mapping[str, float], at: float) -> tuple[str, ...]:
        """What kept part of the amount from being known, as the source counts it."""
        return tuple(part for part in map(str, self.gaps) if increments.get(part, 0.0) > 0)
