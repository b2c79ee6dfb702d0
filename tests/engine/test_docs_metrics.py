"""docs/metrics.md says what the sources give, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from phasegate.api.metricrules import WELL_KNOWN
from phasegate.engine.sources import SOURCES

TEXT = (Path(__file__).parents[2] / "docs/metrics.md").read_text()


def rows(section: str) -> list[list[str]]:
    """The cells of the first table of a section."""
    blocks = TEXT.split(f"## {section}\n\n")[1].split("\n\n")
    lines = next(block for block in blocks if block.startswith("|")).splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_metric_is_explained_with_its_kind() -> None:
    explained = {}
    for name, _, kind, *_ in rows("The well-known metrics")[2:]:
        stem = re.findall(r"`([^`]+)`", name)
        for metric in (stem[0], *(stem[0].rpartition("-")[0] + more for more in stem[1:])):
            explained[metric] = kind
    assert explained == dict(WELL_KNOWN)


def test_the_table_of_emitters_is_that_of_the_sources() -> None:
    header, _, *body = rows("Who emits what")
    presets = header[1:]
    assert presets == list(SOURCES)
    for name, *cells in body:
        metric = name.strip("`")
        given = {p for p, cell in zip(presets, cells, strict=True) if cell.startswith("✓")}
        assert given == {p for p in presets if metric in SOURCES[p].metrics}, metric
    assert {row[0].strip("`") for row in body} == set(WELL_KNOWN)
