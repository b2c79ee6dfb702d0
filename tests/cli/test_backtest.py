"""`phasegate backtest`: mistakes end in a sentence; its picture shows every check."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from click.testing import CliRunner, Result
from phasegate.api.errors import ConfigError
from phasegate.cli import picture
from phasegate.cli.backtest import told
from phasegate.cli.main import main

from tests.cli.test_plan import POLICY, written
from tests.control.test_backtest import again, lived

TIMES = ("--from", "2026-11-21T09:00:00Z", "--to", "2026-11-21T10:00:00Z")
WHO = ("--agent", "shop/support", "--revision", "aaaaaaaaaa")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return written(tmp_path / "policy.yaml", POLICY)


def run(*argv: str | Path) -> Result:
    return CliRunner().invoke(main, ["backtest", *map(str, argv)])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((*TIMES, "--agent", "support", "--revision", "aaaaaaaaaa"), "NAMESPACE/NAME"),
        ((*WHO, "--from", "yesterday", "--to", "2026-11-21"), "is not a time such as"),
        ((*WHO, "--from", "2026-11-21", "--to", "2026-11-20"), "later than --from"),
        ((*WHO, *TIMES), "--config"),
        ((*WHO, *TIMES, "--min-duration", "10"), "duration"),
        ((*WHO, "--from", "2026-11-21"), "--to"),
    ],
)
def test_a_mistake_ends_in_a_sentence(policy: Path, argv: tuple[str, ...], words: str) -> None:
    done = run(policy, *argv)
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), done.exception
    assert words in done.output


def test_a_provider_that_is_not_configured_is_named_with_those_that_are(
    policy: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"providers": {"main": {"url": "http://localhost:1"}}}))
    done = run(policy, *WHO, *TIMES, "--config", config)
    assert done.exit_code == 1
    assert "has no provider 'default'; it has: main" in done.output


def test_a_provider_that_does_not_answer_ends_in_a_sentence(policy: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"providers": {"default": {"url": "http://localhost:1"}}}))
    done = run(policy, *WHO, *TIMES, "--baseline", "bbbbbbbbbb", "--config", config)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert "metrics provider default: not reachable" in done.output


def test_a_source_that_does_not_know_revisions_is_refused(tmp_path: Path) -> None:
    metrics = [{"name": "error-rate", "rollback": {"above": "5%"}}]
    spec = {"source": "envoy-gateway", "metrics": metrics}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"providers": {"default": {"url": "http://localhost:1"}}}))
    policy = written(tmp_path / "policy.yaml", {**POLICY, "spec": spec})
    done = run(policy, *WHO, *TIMES, "--baseline", "bbbbbbbbbb", "--config", config)
    assert done.exit_code == 1
    assert "envoy-gateway knows places in the route" in done.output


async def test_what_would_have_happened_is_told_with_time_and_numbers() -> None:
    world, gates = await lived(0.3, "RolledBack")
    lines = list(told(await again(world, gates[-2], gates[-1], extra=60.0)))
    assert lines[-1].startswith("would have rolled back at 2026-11-01T12:00:")
    assert gates[-1]["message"] in lines[-1]
    assert any("Inconclusive (TooFewSamples)" in line for line in lines[:-1])
    world, gates = await lived(0.01, "Stable")
    lines = list(told(await again(world, gates[1], gates[2])))
    assert lines[-1].startswith("would have advanced at ")


@pytest.mark.parametrize("name", ["x.svg", "x.png"])
async def test_the_picture_has_a_row_for_each_check_and_one_for_the_verdict(
    tmp_path: Path, name: str
) -> None:
    world, gates = await lived(0.3, "RolledBack")
    found = await again(world, gates[-2], gates[-1], extra=60.0)
    picture.draw(found, tmp_path / name)
    if name.endswith(".svg"):
        axes = [
            group.get("id")
            for group in ElementTree.parse(tmp_path / name).iter("{http://www.w3.org/2000/svg}g")
            if (group.get("id") or "").startswith("axes_")
        ]
        assert len(axes) == len(found.points) + 1
    else:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


async def test_a_picture_that_cannot_be_written_ends_in_a_sentence(tmp_path: Path) -> None:
    world, gates = await lived(0.3, "RolledBack")
    found = await again(world, gates[-2], gates[-1])
    for path in (tmp_path / "missing" / "x.svg", tmp_path / "x.doc"):
        with pytest.raises(ConfigError, match="cannot draw"):
            picture.draw(found, path)
