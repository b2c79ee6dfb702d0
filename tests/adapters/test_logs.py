from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from phasegate.adapters import logs


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(form: logs.Format) -> list[str]:
    stream = io.StringIO()
    logs.set_up(form, stream=stream)
    logger = logging.getLogger("phasegate.test")
    logger.info("rolled %s", "back", extra={"agent": "support", "seconds": 0.5, "why": "5 % bad"})
    logger.debug("too small to tell")
    logging.getLogger("httpx").info("HTTP Request: POST")
    try:
        raise ValueError("boom")
    except ValueError:
        logger.exception("failed")
    return stream.getvalue().splitlines()


def test_each_record_is_one_json_object_with_its_extras() -> None:
    first, second = (json.loads(line) for line in lines("json"))
    assert first["message"] == "rolled back"
    assert (first["agent"], first["seconds"], first["why"]) == ("support", 0.5, "5 % bad")
    assert first["time"].endswith("+00:00")
    assert second["level"] == "error"
    assert "ValueError: boom" in second["traceback"]


def test_text_has_quoted_key_value_pairs_after_the_message() -> None:
    first, *rest = lines("text")
    assert first.endswith('info phasegate.test rolled back agent=support seconds=0.5 why="5 % bad"')
    assert rest[0].endswith("error phasegate.test failed")
    assert rest[-1] == "ValueError: boom"


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_users_write_stays_in_its_line_and_steers_no_terminal(form: logs.Format) -> None:
    stream = io.StringIO()
    logs.set_up(form, "INFO", stream)
    forged = "fine\n2026-01-01 error phasegate forged \x1b[2J \u202e\u2028"
    logging.getLogger("phasegate").info(forged, extra={"reason": f"by\x1b[31m{forged}"})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
