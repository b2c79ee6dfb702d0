"""What docs/notifications.md shows is what the operator takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml
from phasegate.adapters.config import load_config
from phasegate.adapters.notifiers.opening import channel, known
from phasegate.adapters.notifiers.settings import NotifierConfig
from phasegate.control.outbox import Result
from phasegate.rollout.notifiers import chosen, problem

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
CONFIG, AGENT = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


async def test_the_configuration_can_be_loaded_and_has_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "phasegate.yaml"
    file.write_text(CONFIG)
    config = load_config(file)
    assert {one.kind for one in config.notifiers.values()} == {
        get_args(kind.model_fields["kind"].annotation)[0]
        for kind in get_args(get_args(NotifierConfig)[0])
    }
    for name, one in config.notifiers.items():
        await channel(name, one.model_copy(update={"ca_file": None})).close()


def test_the_agents_names_are_in_it(tmp_path: Path) -> None:
    file = tmp_path / "phasegate.yaml"
    file.write_text(CONFIG)
    config, agent = load_config(file), yaml.safe_load(AGENT)
    who = known(config.notifiers, config.announce)
    names, namespace = agent["spec"]["notify"], agent["metadata"]["namespace"]
    assert problem(names, namespace, who) is None
    assert chosen(names, namespace, who) == tuple(names)


def test_every_result_is_explained() -> None:
    assert [result for result in get_args(Result) if f"`{result}`" not in PAGE] == []
