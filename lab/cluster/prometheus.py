"""Prometheus: the scrape configuration that users get, at the lab's interval, and our parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.checks import answers
from lab.cluster.gateway import ADMIN_PORT
from lab.cluster.part import Spec
from lab.parts.build import Parts
from lab.paths import State, checkout
from lab.sandbox.network import MAIN_ADDRESS

PORT = 9090
URL = f"http://{MAIN_ADDRESS}:{PORT}"
_SHIPPED = Path("config/prometheus")


def prometheus(parts: Parts, state: State) -> Spec:
    """Prometheus; SIGHUP makes it read its configuration again."""
    configure(state, operators=())
    argv = (
        str(parts.binary("prometheus")),
        f"--config.file={_config(state)}",
        f"--storage.tsdb.path={state.dir / 'prometheus' / 'data'}",
        f"--web.listen-address={MAIN_ADDRESS}:{PORT}",
        "--storage.tsdb.retention.time=2d",
        "--log.level=warn",
    )
    return Spec("prometheus", argv, answers(MAIN_ADDRESS, PORT, "/-/ready"), address=URL)


def configure(state: State, operators: Sequence[str]) -> None:
    """Write prometheus.yml; `operators` are the metrics addresses (host:port) of its replicas."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [*_agents(state), _envoy(), _operator(operators)],
    }
    path = _config(state)
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(yaml.safe_dump(config, sort_keys=False))
    unfinished.rename(path)


def _config(state: State) -> Path:
    return state.dir / "prometheus" / "prometheus.yml"


def _shipped(name: str) -> list[dict[str, Any]]:
    """The jobs of a scrape configuration that users take over."""
    read: dict[str, Any] = yaml.safe_load((checkout() / _SHIPPED / name).read_text())
    jobs: list[dict[str, Any]] = read["scrape_configs"]
    return jobs


def _agents(state: State) -> list[dict[str, Any]]:
    jobs = _shipped("scrape-agents.yaml")
    for job in jobs:
        for discovery in job["kubernetes_sd_configs"]:
            # In a cluster Prometheus finds the API server by its pod's environment; here not.
            discovery["kubeconfig_file"] = str(state.kubeconfig("lab-prometheus"))
    return jobs


def _envoy() -> dict[str, Any]:
    """The shipped job, but for how Envoy is found: here it is no pod."""
    (job,) = _shipped("scrape-envoy.yaml")
    del job["kubernetes_sd_configs"], job["relabel_configs"]
    target = {"targets": [f"127.0.0.1:{ADMIN_PORT}"], "labels": {"pod": "envoy"}}
    return {**job, "static_configs": [target]}


def _operator(addresses: Sequence[str]) -> dict[str, Any]:
    return {"job_name": "phasegate", "static_configs": [{"targets": list(addresses)}]}
