"""What we stand on: pinned, hashed, as locked, under licences that we may use. Offline (`make audit`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
MODULES = sorted(
    path for folder in ("lab/parts", "bench") for path in (ROOT / folder).rglob("go.mod")
)
OURS = "phasegate"
PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|0BSD|Zlib|CC0|HPND|Unlicense"
)
WEAK = {"certifi", "hypothesis", "pathspec"}
"""Under the Mozilla licence, used unchanged."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Name, version and hashes of each entry of a lock."""
    text = re.sub(r"\\\n", " ", lock.read_text())
    for line in text.splitlines():
        entry = line.partition(" #")[0].strip()
        if not entry or entry.startswith("#"):
            continue
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", entry)
        assert found is not None, f"{lock.name}: {entry[:60]} is not pinned"
        yield plain(found[1]), found[2], re.findall(r"--hash=sha256:([0-9a-f]{64})\b", entry)


def installed() -> list[Distribution]:
    return [d for d in distributions() if plain(d.metadata["Name"]) not in (OURS, "pip")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.name))
def test_every_package_of_a_lock_is_pinned_by_hash(lock: Path) -> None:
    entries = list(pinned(lock))
    assert entries
    assert [name for name, _, hashes in entries if not hashes] == []
    assert len({name for name, *_ in entries}) == len(entries)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.name))
def test_a_lock_does_not_say_where_packages_come_from(lock: Path) -> None:
    assert re.search(r"://|^-|\s@\s", lock.read_text(), re.MULTILINE) is None


def test_the_locks_agree() -> None:
    versions: dict[str, set[str]] = {}
    for lock in LOCKS:
        for name, version, _ in pinned(lock):
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_what_is_installed_is_what_is_locked() -> None:
    locked = {name: version for name, version, _ in pinned(ROOT / "requirements/dev.txt")}
    here = {plain(d.metadata["Name"]): d.version for d in installed()}
    other = {name for name, version in here.items() if locked.get(name, version) != version}
    assert other == set()
    assert here.keys() & locked.keys()


def test_the_licences_are_ones_that_we_may_use() -> None:
    unknown = {}
    for found in installed():
        name, metadata = plain(found.metadata["Name"]), found.metadata
        words = [
            "".join(metadata.get_all(field) or ()) for field in ("License-Expression", "License")
        ]
        words += [c for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
        # A choice (GPL or Apache) is ours to make; what must be obeyed together has AND.
        parts = re.split(r"\bAND\b", words[0]) if words[0] else [" ".join(words)]
        if name not in WEAK and not all(PERMISSIVE.search(part) for part in parts):
            unknown[name] = words
    assert unknown == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_go_module_is_known_by_its_hash(module: Path) -> None:
    text, sums = module.read_text(), module.with_name("go.sum").read_text()
    replaced = dict(
        re.findall(r"^(?:replace )?\s*(\S+)(?: v\S+)? => (\S+ v\S+)", text, re.MULTILINE)
    )
    required = re.findall(r"^(?:require )?\s*([\w.~/-]+\.[\w.~/-]+) (v\S+)", text, re.MULTILINE)
    assert required
    wanted = {replaced.get(path, f"{path} {version}") for path, version in required}
    assert [one for one in sorted(wanted) if f"{one}/go.mod h1:" not in sums] == []


def test_nothing_turns_the_verification_of_certificates_off() -> None:
    """But for a provider of which the administrator says so."""
    off = re.compile(
        r"CERT_NONE|verify=False|verify_ssl\s*=\s*False|check_hostname\s*=\s*False|ssl=False"
    )
    sources = (ROOT / "operator/phasegate").rglob("*.py")
    found = {str(p.relative_to(ROOT)) for p in sources if off.search(p.read_text())}
    assert found == {"operator/phasegate/adapters/prometheus.py"}
