"""Lists of floats as one short string: state has to fit into an object at the API server."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_SIZE: Final = 8


def pack(values: Sequence[float]) -> str:
    """Base64 of the deflated little-endian IEEE 754 doubles; exact, also for NaN and infinities."""
    raw = struct.pack(f"<{len(values)}d", *values)
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def unpack(text: str) -> list[float]:
    """The inverse of `pack`. Raises ValueError if it is not of its making."""
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"packed floats cannot be read: {error}") from error
    if len(raw) % _SIZE:
        raise ValueError("packed floats cannot be read: the length is not a multiple of 8 bytes")
    return list(struct.unpack(f"<{len(raw) // _SIZE}d", raw))


def _read(value: Any) -> Any:
    return unpack(value) if isinstance(value, str) else value


Floats = Annotated[list[float], BeforeValidator(_read), PlainSerializer(pack, when_used="json")]
"""A list of floats that pydantic dumps to JSON as one string and loads back exactly."""


def _flat(rows: Sequence[Sequence[float]]) -> str:
    width = len(rows[0]) if rows else 0
    return pack([float(width), *(value for row in rows for value in row)])


def _rows(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    width, *flat = unpack(value) or [0.0]
    if not flat:
        return []
    if not 1 <= width <= len(flat) or len(flat) % width:
        raise ValueError("packed rows cannot be read: they have different lengths")
    return [tuple(flat[i : i + int(width)]) for i in range(0, len(flat), int(width))]


Rows = Annotated[
    list[tuple[float, ...]], BeforeValidator(_rows), PlainSerializer(_flat, when_used="json")
]
"""Rows of floats, all equally long, dumped to one string like Floats."""


_KEY_BYTES: Final = 6


def _grouped(values: Mapping[str, tuple[str, float]]) -> dict[str, tuple[str, str]]:
    groups: dict[str, dict[str, float]] = {}
    for key, (target, value) in values.items():
        groups.setdefault(target, {})[key] = value
    return {
        target: (
            base64.b64encode(b"".join(map(bytes.fromhex, found))).decode("ascii"),
            pack(list(found.values())),
        )
        for target, found in groups.items()
    }


def _spread(stored: Any) -> Any:
    if not isinstance(stored, dict):
        return stored
    values: dict[str, tuple[str, float]] = {}
    for target, found in stored.items():
        keys, numbers = base64.b64decode(found[0], validate=True).hex(), unpack(found[1])
        size = 2 * _KEY_BYTES
        names = [keys[i : i + size] for i in range(0, len(keys), size)]
        values.update({n: (target, v) for n, v in zip(names, numbers, strict=True)})
    return values


LastValues = Annotated[
    dict[str, tuple[str, float]],
    BeforeValidator(_spread),
    PlainSerializer(_grouped, when_used="json"),
]
"""By series (its key of twelve hexadecimal digits) target and value, dumped by target."""
