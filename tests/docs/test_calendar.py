"""What docs/calendar.md shows is what the models take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from phasegate.adapters.config import load_config
from phasegate.adapters.zones import IanaZones
from phasegate.api.calendar import Freeze, Window
from phasegate.api.rolloutaction import RolloutActionSpec
from phasegate.rollout.schedule import calendar_of

PAGE = (Path(__file__).parents[2] / "docs" / "calendar.md").read_text()
AGENT, CONFIG, ACTION = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def written(text: str) -> dict[str, Any]:
    """As kubectl reads it: a date is text."""
    found: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)
    return found


def test_the_agents_calendar_can_be_used() -> None:
    spec = written(AGENT)["spec"]
    windows = [Window.model_validate(entry) for entry in spec["windows"]]
    freezes = [Freeze.model_validate(entry) for entry in spec["freezes"]]
    assert calendar_of(windows, freezes, IanaZones(), "agent", "spec").problem is None
    assert len(windows) == len(freezes) == 2


def test_the_administrators_calendar_can_be_loaded(tmp_path: Path) -> None:
    file = tmp_path / "phasegate.yaml"
    file.write_text(CONFIG)
    assert len(load_config(file).everybody().freezes) == 2


def test_the_override_is_one() -> None:
    spec = RolloutActionSpec.model_validate(written(ACTION)["spec"])
    assert spec.overrides == ("Calendar",)
    assert len(spec.reason) >= 20
