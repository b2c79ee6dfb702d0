"""docs/guarantees.md names, for every promise, a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_ROW = re.compile(r"^\| (?!---|fault|what)(.+) \|$", re.MULTILINE)


def rows() -> list[str]:
    return _ROW.findall((ROOT / "docs" / "guarantees.md").read_text())


def test_there_are_promises() -> None:
    assert len(rows()) > 40


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.partition(" | ")[0][:40])
def test_a_promise_names_a_test_that_exists(row: str) -> None:
    named = _TEST.findall(row)
    assert named, "no test is named"
    for file, name in named:
        path = ROOT / file
        assert path.is_file(), f"{file} does not exist"
        if name:
            assert re.search(rf"def {name}\(", path.read_text()), f"{file} has no {name}"
