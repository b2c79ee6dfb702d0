"""Typed series selectors, ``name{label="value"}``: parsed and matched here, never PromQL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from phasegate.api.errors import InvalidSpec

RESERVED_LABELS = frozenset(
    {"__name__", "namespace", "agent", "revision", "mode", "pod", "job", "instance"}
)
"""Labels the operator sets itself: a selector that names them would leave the agent it judges."""

_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?")
_MATCHER = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)(=~|!~|!=|=)"([^"\\{}\x00-\x1f\x7f]*)"')
_SIMPLE_PATTERN = re.compile(r"(?:[\w :/@-]|\.[*+]?)*")
_MAX_WILDCARDS = 2


class Matcher(NamedTuple):
    """One label condition; `op` is one of ``=``, ``!=``, ``=~``, ``!~``."""

    label: str
    op: str
    value: str

    def __str__(self) -> str:
        """As PromQL has it; a value that ends its string early would end the selector."""
        value = self.value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        return f'{self.label}{self.op}"{value}"'

    def accepts(self, value: str) -> bool:
        """Whether a label's value (empty if absent) fulfils the condition, as Prometheus does."""
        if self.op in ("=", "!="):
            return (value == self.value) == (self.op == "=")
        found = re.fullmatch(self.value, value, re.DOTALL)  # a dot is any character to Prometheus
        return (found is not None) == (self.op == "=~")


class Selector(NamedTuple):
    """A metric name and conditions on its labels."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    def __str__(self) -> str:
        if not self.matchers:
            return self.name
        return f"{self.name}{{{','.join(map(str, self.matchers))}}}"

    def accepts(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a series belongs to this selector."""
        return name == self.name and all(m.accepts(labels.get(m.label, "")) for m in self.matchers)


def parse_selector(text: str, reserved: frozenset[str] = RESERVED_LABELS) -> Selector:
    """Read ``name{label="value",…}``, as a user wrote it. Raises InvalidSpec with the fix.

    `reserved`: labels that it must not name, as they say whose a series is.
    """
    match = _SELECTOR.fullmatch(text)
    if match is None:
        raise InvalidSpec(
            f'{text!r} is not a series; write for example calls_total{{outcome="error"}}'
        )
    matchers = [Matcher(*found.groups()) for found in _MATCHER.finditer(match[2] or "")]
    if ",".join(map(str, matchers)) != (match[2] or ""):
        raise InvalidSpec(f'{text!r} is not a series; write label conditions as label="value"')
    for matcher in matchers:
        _check(matcher, reserved)
    return Selector(match[1], tuple(sorted(matchers)))


def _check(matcher: Matcher, reserved: frozenset[str]) -> None:
    if matcher.label in reserved:
        raise InvalidSpec(f"label {matcher.label!r} is set by the operator; leave it out")
    if matcher.op not in ("=~", "!~"):
        return
    # Patterns are matched in the operator's process: only those that cannot run away are accepted.
    for alternative in matcher.value.split("|"):
        wildcards = alternative.count(".*") + alternative.count(".+")
        if not _SIMPLE_PATTERN.fullmatch(alternative) or wildcards > _MAX_WILDCARDS:
            raise InvalidSpec(
                f"pattern {matcher.value!r} of label {matcher.label!r} is too complex; "
                "write alternatives (a|b) with at most two .* each"
            )
