"""Structured logging: one line per record, JSON or ``key=value``, through the standard library."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

Format = Literal["json", "text"]

# What every record has; the rest came as `extra`.
_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
# The watcher's own attributes, which repeat what its messages say.
_KOPF: Final = frozenset(("k8s_skip", "k8s_ref", "settings"))


class _Formatter(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
        yield "time", datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        yield "level", record.levelname.lower()
        yield "logger", record.name
        yield "message", record.getMessage()
        for key, value in record.__dict__.items():
            if key not in _OWN and key not in _KOPF and value is not None:
                yield key, value
        if record.exc_info:
            yield "traceback", self.formatException(record.exc_info)


class JsonFormatter(_Formatter):
    """One JSON object per line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        """`record` as JSON."""
        text = json.dumps(dict(self.fields(record)), default=str, ensure_ascii=False)
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


class TextFormatter(_Formatter):
    """``time level logger message key=value …``; a traceback follows on its own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """`record` as text."""
        fields = dict(self.fields(record))
        traceback = fields.pop("traceback", None)
        head = [_escaped(str(fields.pop(key))) for key in ("time", "level", "logger", "message")]
        line = " ".join([*head, *(f"{key}={_quoted(value)}" for key, value in fields.items())])
        return line if traceback is None else f"{line}\n{traceback}"


def set_up(form: Format, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every record of this process to `stream` (standard error); replaces what was set up.

    HTTP clients tell of each request: only their warnings are let through.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def _quoted(value: Any) -> str:
    text = _escaped(str(value))
    plain = text and not any(c.isspace() or c in '"=' for c in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _escaped(text: str) -> str:
    """On one line: what users wrote must not look like a record of ours, nor steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
