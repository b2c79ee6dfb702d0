"""Packed floats come back bit by bit, and what was not packed here is refused."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phasegate.engine.packing import Floats, Rows, pack, unpack
from pydantic import TypeAdapter


def bits(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


@given(st.lists(st.floats()))
def test_every_float_comes_back_bit_by_bit(values: list[float]) -> None:
    adapter: TypeAdapter[list[float]] = TypeAdapter(Floats)
    stored = json.loads(json.dumps(adapter.dump_python(values, mode="json"), allow_nan=False))
    assert isinstance(stored, str)
    assert bits(adapter.validate_python(stored)) == bits(values)


@pytest.mark.parametrize(
    "text", ["", "not base64!", "AAAA", base64.b64encode(zlib.compress(b"abc")).decode()]
)
def test_what_was_not_packed_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="packed floats"):
        unpack(text)


def test_counts_take_a_fraction_of_their_size() -> None:
    assert len(pack([float(n % 7) for n in range(150)])) < 150


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.tuples(*[st.floats()] * n))))
def test_rows_come_back_as_they_were(rows: list[tuple[float, ...]]) -> None:
    adapter: TypeAdapter[list[tuple[float, ...]]] = TypeAdapter(Rows)
    loaded = adapter.validate_json(adapter.dump_json(rows))
    assert [bits(list(row)) for row in loaded] == [bits(list(row)) for row in rows]


@pytest.mark.parametrize("flat", [[2.0, 1.0], [0.5, 1.0], [0.0, 1.0], [3.0, 1.0, 2.0]])
def test_rows_of_different_lengths_are_a_validation_error(flat: list[float]) -> None:
    with pytest.raises(ValueError, match="different lengths"):
        TypeAdapter(Rows).validate_python(pack(flat))
