"""`phasegate verify -f`: files as kubectl writes them, and an exit code that a script can act on."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from phasegate.api.base import API_VERSION
from phasegate.cli.main import main

from tests.rollout.test_verifying import story

Json = dict[str, Any]


def objects() -> list[Json]:
    return [{"apiVersion": API_VERSION, **item} for item in copy.deepcopy(story())]


def verify(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def kubectl_list(items: list[Json]) -> Json:
    return {"apiVersion": "v1", "kind": "List", "items": items}


@pytest.mark.parametrize("form", ["yaml list", "yaml documents", "json list", "json lines"])
def test_what_kubectl_writes_verifies(tmp_path: Path, form: str) -> None:
    text = {
        "yaml list": yaml.safe_dump(kubectl_list(objects())),
        "yaml documents": yaml.safe_dump_all(objects()),
        "json list": json.dumps(kubectl_list(objects())),
        "json lines": "\n".join(json.dumps(item) for item in objects()),
    }[form]
    (tmp_path / "file").write_text(text)
    done = verify("-f", tmp_path / "file")
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()] == ["OK", "OK", "OK"]


def test_times_without_quotes_are_the_same_times(tmp_path: Path) -> None:
    text = yaml.safe_dump(kubectl_list(objects()))
    bare = re.sub(r"'(2026-[^']+Z)'", r"\1", text)
    assert bare != text
    (tmp_path / "file").write_text(bare)
    assert verify("-f", tmp_path / "file").exit_code == 0


def test_an_edit_is_named_with_its_record_and_entry(tmp_path: Path) -> None:
    items = objects()
    items[1]["status"]["gates"][2]["message"] = "all was well"
    (tmp_path / "file").write_text(json.dumps(kubectl_list(items)))
    done = verify("-f", tmp_path / "file")
    assert done.exit_code == 1
    assert "ALTERED  AgentRollout team/bot-1" in done.output
    assert "gates: entry 3 does not fit its hash" in done.output
    assert verify("-f", tmp_path / "file", "another").exit_code == 2


def test_several_files_are_one_set(tmp_path: Path) -> None:
    for n, item in enumerate(objects()):
        (tmp_path / f"{n}.yaml").write_text(yaml.safe_dump(item))
    cut = verify("-f", tmp_path / "0.yaml", "-f", tmp_path / "1.yaml")
    assert cut.exit_code == 1
    assert "the record of the newest attempt is not there" in cut.output
    whole = [part for n in range(3) for part in ("-f", tmp_path / f"{n}.yaml")]
    assert verify(*whole).exit_code == 0


@pytest.mark.parametrize("text", ["", "{", "a: [", "kind: AgentRollout", "{}", "[1, 2]"])
def test_what_cannot_be_read_is_not_called_altered(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    done = verify("-f", tmp_path / "file")
    assert done.exit_code == 2
    assert "Traceback" not in done.output


@pytest.mark.parametrize("odd", ["0", "[[]]", "{a: {1: b, c: d}}", "!!binary aGk=", "''"])
@pytest.mark.parametrize("place", ["spec", "status", "gates", "uid", "folded", "record"])
def test_a_file_that_makes_no_sense_ends_with_a_sentence(
    tmp_path: Path, odd: str, place: str
) -> None:
    items = objects()
    agent, record = items[0]["status"], items[1]
    held: dict[str, Json] = {
        "spec": record,
        "status": record,
        "record": agent,
        "uid": record["status"]["actions"][0],
    }
    part: Json = held.get(place) or record["status"]
    part[place] = "ODD"
    text = yaml.safe_dump(kubectl_list(items)).replace("ODD", odd)
    (tmp_path / "file").write_text(text)
    for agent in ((), ("bot",)):
        done = verify("-f", tmp_path / "file", *agent)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert verify("-f", tmp_path / "none").exit_code == 2
