"""Which notifiers an agent's announcements go to. An agent names them; the administrator has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Known:
    """The notifiers of the operator's configuration."""

    namespaces: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """By name: the namespaces whose agents may name it; empty for all."""
    default: tuple[str, ...] = ()
    """For agents that name none, or none that there is."""

    def open_to(self, namespace: str) -> tuple[str, ...]:
        """What agents of `namespace` may name, in the order of the alphabet."""
        found = (n for n, only in self.namespaces.items() if not only or namespace in only)
        return tuple(sorted(found))


def chosen(names: Iterable[str], namespace: str, known: Known) -> tuple[str, ...]:
    """Where an agent's announcements go. A name that is unknown must not make a rollback silent."""
    usable = known.open_to(namespace)
    found = tuple(dict.fromkeys(name for name in names if name in usable))
    return found or known.default


def problem(names: Iterable[str], namespace: str, known: Known) -> str | None:
    """What is wrong with the names, in a sentence."""
    usable = known.open_to(namespace)
    unknown = [name for name in names if name not in usable]
    if not unknown:
        return None
    there = ", ".join(usable) or "none"
    told = ", ".join(chosen(names, namespace, known)) or "nobody"
    return (
        f"notify: the operator's configuration has no notifier {', '.join(unknown)} for this "
        f"namespace, it has: {there}; announcements go to: {told}"
    )
