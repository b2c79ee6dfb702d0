"""The operator's own endpoint off loopback: probes for all, metrics for who the cluster says may."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from lab import Lab
from lab.cluster.operator import ACCOUNT, NAMESPACE
from lab.faults import Answer, FaultProxy, Match, OperatorProcess
from tests.lab.faults.scene import a_namespace
from tests.lab.main_job.cluster import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def token(lab: Lab, namespace: str, account: str) -> str:
    return lab.kubectl("create", "token", account, "-n", namespace).strip()


def test_metrics_are_for_those_whom_the_cluster_lets_read_them(
    quiet_lab: Lab, tmp_path: Path
) -> None:
    lab = quiet_lab
    with a_namespace(lab) as namespace, FaultProxy(lab, tmp_path) as proxy:
        for account in ("prometheus", "tenant"):
            lab.kubectl("create", "serviceaccount", account, "-n", namespace)
        reader = f"--serviceaccount={namespace}:prometheus"
        role = "--clusterrole=phasegate-metrics-reader"
        lab.kubectl("create", "clusterrolebinding", f"reader-{namespace}", role, reader)
        options = {"kubeconfig": proxy.kubeconfig, "namespaces": [namespace], "host": "0.0.0.0"}
        with OperatorProcess(lab, tmp_path, **options) as operator:  # type: ignore[arg-type]
            good, poor = token(lab, namespace, "prometheus"), token(lab, namespace, "tenant")
            own = token(lab, NAMESPACE, ACCOUNT)

            def ask(path: str, bearer: str | None = None) -> httpx.Response:
                headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
                return httpx.get(f"{operator.url}{path}", headers=headers, trust_env=False)

            assert ask("/healthz").status_code == 200
            assert ask("/metrics").status_code == 401
            assert ask("/metrics", "forged").status_code == 401
            assert ask("/metrics", own).status_code == 403
            refused = ask("/metrics", poor)
            assert refused.status_code == 403
            assert refused.text.startswith(f"system:serviceaccount:{namespace}:tenant may not get")
            until("Prometheus reads", lambda: "phasegate_leader" in ask("/metrics", good).text)

            reviews = Match(verbs=["create"], plural="tokenreviews")
            with proxy.rule(reviews, Answer(500, "no reviews today")):
                assert ask("/metrics", good).status_code == 200
                assert ask("/metrics", own.swapcase()).status_code == 503
            said = operator.log
            assert "tokens of who reads metrics come in clear" in said
            assert "nobody can say who may read metrics" in said
            for secret in (good, poor, own):
                assert secret not in said
                assert secret.rpartition(".")[2] not in said  # nor its signature
        lab.kubectl("delete", "clusterrolebinding", f"reader-{namespace}")
