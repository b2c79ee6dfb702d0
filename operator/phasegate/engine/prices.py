"""What tokens cost, where a source counts tokens and no money: a table, and sums valued by it."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Final, NamedTuple

import yaml

from phasegate.api.errors import ConfigError
from phasegate.engine.selectors import Selector

_MILLION: Final = 1e6
_MOST_USD: Final = 1_000_000_000
"""More for a million tokens is a mistake, and far enough more would be infinite as a float."""
_FIELDS: Final = ("model", "from", "usdPerMillionTokens")
_TOKENS: Final = ("input", "output")
_MODEL: Final = "|model="
"""Between a series' selector and the model of its tokens, in the name of a part."""
_UNNAMED: Final = "a model without a name"


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of one type cost."""

    model: str
    """The model's name as the series give it; with ``*`` at its end, every name that begins so."""
    tokens: str
    """The type of tokens: ``input``, ``output``."""
    usd_per_million: Decimal
    since: float = 0.0
    """Valid from this time on (unix seconds), until a later price of the same model and type."""


@dataclass(frozen=True, repr=False)
class PriceTable:
    """Prices by model, type of tokens and date.

    The exact name goes before a prefix, a longer prefix before a shorter one; of those that are
    valid at a time, the latest counts.
    """

    prices: tuple[Price, ...]

    def __repr__(self) -> str:
        """Short: it is part of what identifies a plan of evidence."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.blake2b(repr(self.prices).encode(), digest_size=8).hexdigest()
        return f"PriceTable({len(self.prices)} prices, {digest})"

    @cached_property
    def _by_type(self) -> Mapping[str, tuple[Price, ...]]:
        """The prices of each type of tokens in the order in which they are tried."""
        ordered = sorted(
            self.prices, key=lambda p: (p.model.endswith("*"), -len(p.model), -p.since)
        )
        return {kind: tuple(p for p in ordered if p.tokens == kind) for kind in _types(ordered)}

    def price(self, model: str, tokens: str, at: float) -> float | None:
        """US dollars for one token at a time (unix seconds); None: no price is known."""
        for price in self._by_type.get(tokens, ()):
            if price.since <= at and _matches(price.model, model):
                return float(price.usd_per_million) / _MILLION
        return None


def _types(prices: list[Price]) -> set[str]:
    return {price.tokens for price in prices}


def _matches(pattern: str, model: str) -> bool:
    return model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern


class _Spent(NamedTuple):
    """What one part of the increments is."""

    way: int
    tokens: str
    model: str
    added: float


@dataclass(frozen=True, slots=True)
class Priced:
    """Tokens times their price, summed over models and types. The interface is that of Amount.

    Like Amount it knows several ways to write the same: the most expensive counts.
    """

    ways: tuple[tuple[tuple[str, Selector], ...], ...]
    """For each way the counters with the type of tokens they count."""
    model: str
    """The label that names the model."""
    table: PriceTable

    def selectors(self) -> tuple[Selector, ...]:
        """Series that must be fetched."""
        return tuple(selector for way in self.ways for _, selector in way)

    def parts(self, name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
        """One part for each counter and model: ``<selector>|model=<model>``."""
        model = labels.get(self.model, "")
        return tuple(
            f"{selector}{_MODEL}{model}"
            for selector in self.selectors()
            if selector.accepts(name, labels)
        )

    def value(self, increments: Mapping[str, float], at: float) -> float:
        """US dollars for increments by part, at the prices of a time (unix seconds).

        What has no price counts nothing: ask `unknown` before.
        """
        sums = [0.0] * len(self.ways)
        for spent in self._spent(increments):
            price = self.table.price(spent.model, spent.tokens, at) or 0.0
            sums[spent.way] += spent.added * price
        return max(sums)

    def unknown(self, increments: Mapping[str, float], at: float) -> tuple[str, ...]:
        """The models that counted tokens for which no price is known."""
        found = {
            spent.model or _UNNAMED
            for spent in self._spent(increments)
            if self.table.price(spent.model, spent.tokens, at) is None
        }
        return tuple(sorted(found))

    def _spent(self, increments: Mapping[str, float]) -> Iterator[_Spent]:
        heads = {
            str(selector): (index, kind)
            for index, way in enumerate(self.ways)
            for kind, selector in way
        }
        for part, count in increments.items():
            head, mark, model = part.partition(_MODEL)
            if mark and count > 0 and head in heads:
                yield _Spent(*heads[head], model, count)


# --- reading a table -----------------------------------------------------------------------------


def parse_prices(text: str, where: str = "the price table") -> PriceTable:
    """Read a table. Raises ConfigError with a sentence for each mistake.

    ::

        prices:
          - model: gpt-4.1-mini*
            from: 2026-01-01            # midnight UTC; without it: always
            usdPerMillionTokens: {input: "0.40", output: "1.60"}
    """
    try:
        content = yaml.safe_load(text)
    except Exception as error:  # not only YAMLError: the date 2026-02-30 is a ValueError
        # Tenants read this sentence: it says where, and quotes nothing of the file.
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise ConfigError(f"{where} is not YAML{line}") from error
    rows = content.get("prices") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{where}: write a list of prices under prices:")
    prices: list[Price] = []
    mistakes: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            prices += _read_row(row)
        except ValueError as error:
            mistakes.append(f"{where}: row {number}: {error}")
    mistakes += [f"{where}: {sentence}" for sentence in _doubles(prices)]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return PriceTable(tuple(prices))


def _read_row(row: Any) -> list[Price]:
    if not isinstance(row, dict):
        raise ValueError(f"write {', '.join(_FIELDS)}")
    if strange := [str(key) for key in row if key not in _FIELDS]:
        raise ValueError(f"{', '.join(strange)} is not known; write {', '.join(_FIELDS)}")
    model = row.get("model")
    if not isinstance(model, str) or not model.strip("*") or "*" in model[:-1]:
        raise ValueError(
            "model must be a model's name, or how it begins with one * at the end, such as gpt-4.1*"
        )
    since = _time(row.get("from"))
    by_type = row.get("usdPerMillionTokens")
    if not isinstance(by_type, dict) or not by_type:
        raise ValueError('usdPerMillionTokens must be like {input: "0.40", output: "1.60"}')
    if strange := [str(kind) for kind in by_type if kind not in _TOKENS]:
        raise ValueError(f"usdPerMillionTokens: {', '.join(strange)} is not input or output")
    return [Price(model, str(kind), _usd(kind, value), since) for kind, value in by_type.items()]


def _usd(kind: Any, value: Any) -> Decimal:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidOperation
        usd = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f'{kind}: {value!r} is not an amount such as "0.40"') from None
    if not usd.is_finite() or not 0 <= usd <= _MOST_USD:
        raise ValueError(f"{kind}: {value} is not an amount of money")
    return usd


def _time(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, str):
        try:
            value = datetime.date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"from: {value!r} is not a date such as 2026-01-31") from None
    if isinstance(value, datetime.datetime) or not isinstance(value, datetime.date):
        raise ValueError(f"from: {value} is not a date such as 2026-01-31")
    midnight = datetime.datetime.combine(value, datetime.time(), datetime.UTC)
    return midnight.timestamp()


def _doubles(prices: list[Price]) -> list[str]:
    seen: set[tuple[str, str, float]] = set()
    found = []
    for price in prices:
        key = (price.model, price.tokens, price.since)
        if key in seen:
            found.append(f"{price.model} has two prices for {price.tokens} from the same date on")
        seen.add(key)
    return found
