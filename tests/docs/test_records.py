"""docs/records.md: its configuration loads, its commands exist, and its numbers are the code's."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import yaml
from click.testing import CliRunner
from phasegate.adapters.config import OperatorConfig
from phasegate.api.agentrollout import AgentRolloutStatus
from phasegate.cli.main import main
from phasegate.rollout.chain import KEPT, LISTS
from phasegate.rollout.recording import BRIEF, MOST, ROOM
from phasegate.rollout.retention import Retention

PAGE = (Path(__file__).parents[2] / "docs" / "records.md").read_text()


def test_the_configuration_loads_and_is_the_default() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    rule = OperatorConfig.model_validate(yaml.safe_load(block)).retention.rule()
    assert rule == Retention() == Retention(20, timedelta(days=90))


def test_its_commands_exist() -> None:
    named = set(re.findall(r"phasegate (verify|export|prune)", PAGE))
    assert named == {"verify", "export", "prune"}
    for name in named:
        assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


def test_every_list_is_described_and_the_bounds_are_right() -> None:
    assert all(f"| `{name}` |" in PAGE for name in LISTS)
    assert set(LISTS) <= set(AgentRolloutStatus.model_fields)
    bounds = (f"newest {MOST} entries", f"{ROOM // 1024} KiB", f"while {KEPT} of", f"{BRIEF} chara")
    assert all(bound in PAGE for bound in bounds)
