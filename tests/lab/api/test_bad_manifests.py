"""Every mistake is refused at apply, with the field and the words the user needs."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.api.apiserver import ROOT, ApiServer, Manifest, changed, good

pytestmark = pytest.mark.lab

CASES: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "tests/lab/api/bad_manifests.yaml").read_text()
)


def manifest_of(case: dict[str, Any]) -> Manifest:
    change = case["change"]
    for path, times in case.get("repeat", {}).items():
        *parents, last = path.split(".")
        parent = reduce(dict.__getitem__, parents, change)
        parent[last] *= times
    manifest: Manifest = changed(good(case.get("kind", "AgentDeployment")), change)
    return manifest


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_a_bad_manifest_is_refused_with_the_field_and_the_fix(
    module_api: ApiServer, case: dict[str, Any]
) -> None:
    user = module_api.as_user(case["user"]) if "user" in case else module_api
    manifest = manifest_of(case)
    answer = user.create(manifest, dry_run=True)

    assert answer.status in (400, 403, 422), answer.message[:2000]
    for words in (case["field"], *case["says"]):
        assert words in answer.message, answer.message[:2000]
    assert "no such overload" not in answer.message
    assert "rule evaluation" not in answer.message
    assert len(answer.message) < 2000
    assert not user.apply(manifest, dry_run=True).accepted


SAMPLES = [path for path in (ROOT / "config/samples").rglob("*.yaml") if "kust" not in path.name]


@pytest.mark.parametrize("sample", SAMPLES, ids=[path.stem for path in SAMPLES])
def test_the_samples_are_accepted(module_api: ApiServer, sample: Path) -> None:
    for manifest in yaml.safe_load_all(sample.read_text()):
        for answer in (
            module_api.create(manifest, dry_run=True),
            module_api.apply(manifest, dry_run=True),
        ):
            assert answer.accepted, answer.message


def test_there_are_enough_bad_manifests_and_none_twice() -> None:
    assert len(CASES) >= 60
    assert len({case["case"] for case in CASES}) == len(CASES)
