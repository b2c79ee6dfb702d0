"""etcd, kube-apiserver, kube-controller-manager and the node agent: how each is started."""

from __future__ import annotations

import sys

from lab.cluster.checks import answers, listens
from lab.cluster.identity import SERVICE_RANGE, Identity
from lab.cluster.part import Spec
from lab.parts.build import Parts
from lab.paths import State
from lab.sandbox.network import MAIN_ADDRESS

_ETCD = "http://127.0.0.1:2379"
POD_RANGE = "10.244.0.0/16"


def etcd(parts: Parts, state: State) -> Spec:
    """Without fsync: the lab's data ends with the lab, and slow disks must not matter."""
    argv = (
        str(parts.binary("etcd")),
        f"--data-dir={state.dir / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return Spec("etcd", argv, answers("127.0.0.1", 2379, "/health"), address="127.0.0.1:2379")


def apiserver(parts: Parts, identity: Identity) -> Spec:
    """kube-apiserver: RBAC, the default admission plugins with policies, users from tokens."""
    argv = (
        str(parts.binary("kube-apiserver")),
        f"--etcd-servers={_ETCD}",
        f"--advertise-address={MAIN_ADDRESS}",
        "--secure-port=6443",
        f"--tls-cert-file={identity.server_cert}",
        f"--tls-private-key-file={identity.server_key}",
        f"--token-auth-file={identity.tokens}",
        "--authorization-mode=RBAC",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={identity.service_account_public}",
        f"--service-account-signing-key-file={identity.service_account_key}",
        "--api-audiences=https://kubernetes.default.svc",
        "--endpoint-reconciler-type=none",  # one server, and its lease would only slow the start
        "--allow-privileged=true",
        "--profiling=false",
        "--v=1",
    )
    ready = answers(MAIN_ADDRESS, 6443, "/readyz", ca=identity.ca)
    return Spec("kube-apiserver", argv, ready, address=f"{MAIN_ADDRESS}:6443")


def controller_manager(parts: Parts, identity: Identity, state: State) -> Spec:
    """kube-controller-manager: every controller but those of nodes, which here never die."""
    kubeconfig = state.kubeconfig("kube-controller-manager")
    argv = (
        str(parts.binary("kube-controller-manager")),
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={state.tmp / 'kube-controller-manager'}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={identity.service_account_key}",
        f"--root-ca-file={identity.ca}",
        "--controllers=*,-node-ipam-controller,-node-lifecycle-controller",
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--concurrent-deployment-syncs=10",
        "--concurrent-endpoint-syncs=10",
        "--concurrent-service-endpoint-syncs=10",
        # The defaults of 20/30 make a hundred agents wait for their pods.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--profiling=false",
        "--v=1",
    )
    # Its certificate is its own, so no more than the port is asked for.
    ready = listens("127.0.0.1", 10257)
    return Spec("kube-controller-manager", argv, ready, address="127.0.0.1:10257")


def node(state: State) -> Spec:
    """The node agent: binds pods, runs them as processes, reports on them."""
    argv = (
        sys.executable,
        "-m",
        "lab.node",
        f"--kubeconfig={state.kubeconfig('lab-node')}",
        f"--state-dir={state.dir / 'node'}",
    )

    async def ready() -> bool:  # the bring-up waits for the Node object's Ready condition
        return True

    return Spec("node", argv, ready, address=POD_RANGE)
