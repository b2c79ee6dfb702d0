"""The quick reader says what the ordinary decoder says, or nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.adapters.matrix import GENERATION, MatrixReader

TEXTS = st.text(max_size=12) | st.sampled_from(
    [',{"metric":', ',"values":', '},{"metric":{"a":"b"', "]}}", '"', "\\", '\\"', "\n"]
)
LABELS = st.dictionaries(TEXTS, TEXTS, max_size=4)
NUMBERS = st.floats(0, 1e9).map(str) | st.sampled_from(["NaN", "+Inf", "-Inf", "1", "1e3"])
SAMPLES = st.lists(st.tuples(st.integers(0, 2**31) | st.floats(0, 1e10), NUMBERS), max_size=4)


def answer(series: list[tuple[dict[str, str], Any]], **more: Any) -> bytes:
    """As Prometheus writes it."""
    result = [{"metric": labels, "values": samples} for labels, samples in series]
    body = {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def expected(body: bytes) -> list[tuple[str, dict[str, str], list[tuple[float, float]]]]:
    found = []
    for item in json.loads(body)["data"]["result"]:
        labels = item["metric"]
        samples = [(float(at), float(v)) for at, v in item["values"] if math.isfinite(float(v))]
        found.append((labels.pop("__name__", ""), labels, samples))
    return found


def read(reader: MatrixReader, body: bytes, now: float = 0.0) -> Any:
    found = reader.read(body, now)
    if found is None:
        return None
    return [(known.name, dict(known.labels), samples) for known, samples in found]


@given(st.lists(st.tuples(LABELS, SAMPLES), max_size=4))
def test_it_reads_what_the_decoder_reads(series: list[tuple[dict[str, str], Any]]) -> None:
    reader, body = MatrixReader(), answer(series)
    found = read(reader, body)
    # A label that is called "histogram…" looks like a histogram: the ordinary decoder takes it.
    assert found == expected(body) or (found is None and b'"histogram' in body)
    assert read(reader, body) == found


@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 60))
def test_bytes_that_were_damaged_are_an_error_or_read_as_the_decoder_reads_them(
    noise: bytes, where: int, lost: int
) -> None:
    whole = answer([({"__name__": "a", "pod": "x"}, [(1.5, "2")]), ({"b": "c"}, [(2, "3")])])
    body = whole[:where] + noise + whole[where + lost :]
    try:
        found = read(MatrixReader(), body)
    except (ValueError, TypeError, KeyError, AttributeError):
        return
    if found is not None:
        try:
            assert found == expected(body)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise AssertionError(f"{body!r} was read as {found}") from error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        answer([], warnings=["partial"]),
        answer([({"a": "b"}, [(1, "2")])], warnings=["partial"]),
        answer([({"a": "b"}, [(1, "2")])]).replace(b"matrix", b"vector"),
        answer([({"a": "b"}, [(1, "2")])]).replace(b'"values"', b'"histograms"'),
        json.dumps(json.loads(answer([({"a": "b"}, [(1, "2")])]))).encode(),
    ],
)
def test_anything_unusual_is_left_to_the_decoder(body: bytes) -> None:
    assert MatrixReader().read(body, 0.0) is None


def test_a_series_is_the_same_object_as_long_as_it_is_seen_and_forgotten_afterwards() -> None:
    reader = MatrixReader()
    first, second = answer([({"pod": "a"}, [(1, "1")])]), answer([({"pod": "b"}, [(1, "1")])])
    ((known, _),) = reader.read(first, 0.0) or []
    ((again, _),) = reader.read(first, GENERATION + 1) or []
    assert again is known
    reader.read(second, 2 * GENERATION + 2)
    reader.read(second, 3 * GENERATION + 3)
    ((new, _),) = reader.read(first, 3 * GENERATION + 4) or []
    assert new == known
    assert new is not known
