"""The calendar of docs/calendar.md, as a real API server takes it from kubectl."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.lab.api.apiserver import ROOT, ApiServer, good

pytestmark = pytest.mark.lab


def test_kubectl_takes_dates_without_quotes(api: ApiServer, kubeconfig: Path) -> None:
    page = (ROOT / "docs" / "calendar.md").read_text()
    shown = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    calendar = shown[shown.index("  windows:") :]
    agent = good("AgentDeployment")
    spec = agent.pop("spec")
    text = yaml.safe_dump(agent) + yaml.safe_dump({"spec": spec}) + calendar
    kubectl = [str(Path(sys.executable).parent / "kubectl"), f"--kubeconfig={kubeconfig}"]
    done = subprocess.run(
        [*kubectl, "-n", api.namespace, "create", "-f", "-", "-o", "yaml"],
        input=text.encode(),
        check=True,
        capture_output=True,
    )
    stored = yaml.load(done.stdout, Loader=yaml.BaseLoader)["spec"]
    assert stored["windows"][1]["except"] == ["2026-12-25"]
    assert stored["freezes"][1]["from"] == "2026-12-19T18:00"
    assert stored["freezes"][1]["until"] == "2027-01-03"
    assert stored["windows"][0]["to"] == "17:00"
