"""The node agent on the real control plane: what a pod's author can see of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import Lab
from lab.errors import LabError

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

Json = dict[str, Any]

FETCH = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())
"""
MARKED = """
import pathlib, sys
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if sys.argv[1].encode() in (entry / "environ").read_bytes():
            print(entry.name)
    except OSError:
        pass
"""


def agent(name: str, env: dict[str, str] | None = None, **container: Any) -> Json:
    """A pod of the sample agent with a readiness probe."""
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    return pod(
        name,
        image="phasegate.dev/sample-agent:1",
        env=[{"name": "AGENT_DRAIN_S", "value": "0"}, *variables],
        **{"readinessProbe": probe, **container},
    )


def shell(name: str, script: str, restart: str = "Never", **container: Any) -> Json:
    """A pod that runs a shell script."""
    body = pod(name, image="example.com/shell:1", command=["sh", "-c", script], **container)
    body["spec"]["restartPolicy"] = restart
    return body


def pod(name: str, **container: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", **container}],
        },
    }


class Pods:
    """One namespace of the lab."""

    def __init__(self, lab: Lab, namespace: str) -> None:
        self.lab = lab
        self.namespace = namespace

    def apply(self, *objects: Json) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.lab.kubectl("apply", "-n", self.namespace, "-f", "-", input=text)

    def get(self, name: str, kind: str = "pod") -> Json:
        text = self.lab.kubectl("get", kind, name, "-n", self.namespace, "-o", "json")
        found: Json = json.loads(text)
        return found

    def delete(self, *names: str, wait: bool = True) -> None:
        self.lab.kubectl("delete", "pod", *names, "-n", self.namespace, f"--wait={wait}".lower())

    def container(self, name: str) -> Json:
        status: Json = self.get(name)["status"]["containerStatuses"][0]
        return status

    def wait(self, name: str, condition: str) -> None:
        where = ("-n", self.namespace, "--timeout=60s")
        self.lab.kubectl("wait", f"--for={condition}", f"pod/{name}", *where)

    def log(self, name: str) -> str:
        path = self.lab.state.dir / "node" / "logs" / self.namespace / name / "main.log"
        return path.read_text()

    def fetch(self, url: str) -> str:
        return self.lab.exec([sys.executable, "-c", FETCH, url]).stdout

    def processes(self, uid: str) -> list[str]:
        mark = f"LAB_POD_DIR={self.lab.state.dir}/node/pods/{uid}"
        return self.lab.exec([sys.executable, "-c", MARKED, mark]).stdout.split()


def until(what: Callable[[], object]) -> None:
    """Ask a condition (through kubectl) until it holds; the test's time-out is the limit."""
    while not what():
        pass


@pytest.fixture
def pods(lab: Lab, namespace: str) -> Pods:
    return Pods(lab, namespace)


def test_two_pods_listen_on_the_same_port_and_both_serve(pods: Pods) -> None:
    pods.apply(agent("one", {"AGENT_REVISION": "r1"}), agent("two", {"AGENT_REVISION": "r2"}))
    pods.wait("one", "condition=Ready")
    pods.wait("two", "condition=Ready")
    addresses = [pods.get(name)["status"]["podIP"] for name in ("one", "two")]
    assert len(set(addresses)) == 2
    for address in addresses:
        assert "agent_requests_total" in pods.fetch(f"http://{address}:8080/metrics")


def test_ready_pods_of_a_deployment_become_endpoints_and_unready_ones_do_not(pods: Pods) -> None:
    good, bad = agent("good"), agent("bad", {"FAULT_NOT_READY": "1"})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "both"},
        "spec": {"selector": {"both": "yes"}, "ports": [{"port": 8080}]},
    }
    for item in (good, bad):
        item["metadata"]["labels"]["both"] = "yes"
    pods.apply(service, good, bad)
    pods.wait("good", "condition=Ready")

    def endpoints() -> dict[str, bool]:
        selector = "kubernetes.io/service-name=both"
        text = pods.lab.kubectl(
            "get", "endpointslices", "-n", pods.namespace, "-l", selector, "-o", "json"
        )
        slices = json.loads(text)["items"]
        found = [e for s in slices for e in s.get("endpoints") or ()]
        return {e["targetRef"]["name"]: e["conditions"]["ready"] for e in found}

    until(lambda: endpoints() == {"good": True, "bad": False})


def test_environment_and_volumes_are_as_the_pod_asks(pods: Pods) -> None:
    body = shell(
        "env",
        'echo "$GREETING|$NAME|$IP|$KEY|$PRE_a|$UNKNOWN|$1"; cat /etc/agent-conf/a /conf/deep/s;'
        " ls /etc/passwd; touch /conf/deep/s || echo read-only; pwd",
        env=[
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "GREETING", "value": "hello $(NAME) $(NOBODY) $$(NAME)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "s"}}},
        ],
        envFrom=[{"prefix": "PRE_", "configMapRef": {"name": "c"}}],
        args=["zero", "arg-$(NAME)"],
        workingDir="/tmp",
        volumeMounts=[
            {"name": "c", "mountPath": "/etc/agent-conf"},
            {"name": "s", "mountPath": "/conf/deep", "readOnly": True},
        ],
    )
    body["spec"]["volumes"] = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
    ]
    pods.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "A\n"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"s": "S"}},
        body,
    )
    pods.wait("env", "jsonpath={.status.phase}=Succeeded")
    ip = pods.get("env")["status"]["podIP"]
    said = pods.log("env")
    assert f"hello env $(NOBODY) $(NAME)|env|{ip}|S|A" in said
    assert "|arg-env" in said
    assert "A\nS/etc/passwd" in said
    assert "read-only" in said
    assert said.endswith("/tmp\n")


def test_a_missing_config_map_is_named_and_the_pod_starts_when_it_comes(pods: Pods) -> None:
    reference = {"configMapKeyRef": {"name": "late", "key": "k"}}
    pods.apply(shell("late", "echo $K", env=[{"name": "K", "valueFrom": reference}]))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    pods.wait("late", f"{reason}=CreateContainerConfigError")
    assert 'configmap "late" not found' in pods.container("late")["state"]["waiting"]["message"]
    data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}
    pods.apply({**data, "data": {"k": "there"}})
    pods.wait("late", "jsonpath={.status.phase}=Succeeded")
    assert pods.log("late") == "there\n"


def test_an_unknown_image_never_becomes_ready_and_says_why(pods: Pods) -> None:
    pods.apply(pod("unknown", image="phasegate.dev/does-not-exist:1"))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    pods.wait("unknown", f"{reason}=ImagePullBackOff")
    message = pods.container("unknown")["state"]["waiting"]["message"]
    assert "phasegate.dev/does-not-exist:1" in message
    assert "pulls no images" in message
    assert pods.get("unknown")["status"]["phase"] == "Pending"


def test_a_crashing_container_is_restarted_with_back_off(pods: Pods) -> None:
    pods.apply(shell("crash", "echo once; exit 3", restart="Always"))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    pods.wait("crash", f"{reason}=CrashLoopBackOff")
    until(lambda: pods.container("crash")["restartCount"] >= 3)
    status = pods.container("crash")
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert pods.log("crash").count("once") >= 3


def test_failed_liveness_restarts_the_container(pods: Pods) -> None:
    probe = {
        "httpGet": {"path": "/healthz", "port": 8080},
        "periodSeconds": 1,
        "failureThreshold": 2,
    }
    faults = {"FAULT_NOT_READY": "1", "FAULT_AFTER_S": "2"}
    pods.apply(agent("sick", faults, livenessProbe=probe))
    pods.wait("sick", "condition=Ready")
    until(lambda: pods.container("sick")["restartCount"] >= 1)
    events = pods.lab.kubectl("get", "events", "-n", pods.namespace)
    assert "statuscode: 503" in events


def test_failed_readiness_takes_ready_away_without_a_restart(pods: Pods) -> None:
    pods.apply(agent("moody", {"FAULT_NOT_READY": "1", "FAULT_AFTER_S": "2"}))
    pods.wait("moody", "condition=Ready")
    pods.wait("moody", "condition=Ready=false")
    assert pods.container("moody")["restartCount"] == 0


def test_exec_and_tcp_probes_run_inside_the_pod(pods: Pods) -> None:
    script = "sleep 1; touch $HOME/up; exec sleep 60"
    probe = {"exec": {"command": ["sh", "-c", "test -f $HOME/up"]}, "periodSeconds": 1}
    tcp = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    pods.apply(
        shell("exec", script, startupProbe={**probe, "failureThreshold": 20}),
        agent("tcp", readinessProbe=tcp),
    )
    pods.wait("exec", "condition=Ready")
    pods.wait("tcp", "condition=Ready")


def test_init_containers_run_first_and_a_failed_one_fails_the_pod(pods: Pods) -> None:
    good, bad = shell("good", "echo main"), shell("bad", "echo main")
    first = {"name": "first", "image": "example.com/shell:1"}
    good["spec"]["initContainers"] = [{**first, "command": ["sh", "-c", "echo init"]}]
    bad["spec"]["initContainers"] = [{**first, "command": ["sh", "-c", "exit 1"]}]
    pods.apply(good, bad)
    pods.wait("good", "jsonpath={.status.phase}=Succeeded")
    pods.wait("bad", "jsonpath={.status.phase}=Failed")
    main = pods.container("bad")["state"]
    assert main["waiting"]["reason"] == "PodInitializing"


def test_a_deleted_pod_gets_its_grace_and_leaves_no_process(pods: Pods) -> None:
    polite = "trap 'echo bye; exit 0' TERM; sleep 100 & wait"
    stubborn = (
        "trap 'date +TERM%s' TERM; (setsid sleep 100 &); while :; do sleep .1; date +%s; done"
    )
    body = shell("stubborn", stubborn, restart="Always")
    body["spec"]["terminationGracePeriodSeconds"] = 2
    pods.apply(shell("polite", polite, restart="Always"), body)
    pods.wait("polite", "condition=Ready")
    pods.wait("stubborn", "condition=Ready")
    uid = pods.get("stubborn")["metadata"]["uid"]
    until(lambda: len(pods.processes(uid)) >= 2)
    pods.delete("polite", "stubborn")
    *_, last = pods.log("stubborn").split()
    asked = pods.log("stubborn").partition("TERM")[2].split()[0]
    assert int(last) - int(asked) in (1, 2, 3)
    assert pods.log("polite") == "bye\n"
    assert pods.processes(uid) == []


def test_pods_deleted_while_they_start_leave_nothing(pods: Pods) -> None:
    names = [f"brief-{number}" for number in range(6)]
    pods.apply(*(agent(name) for name in names))
    text = pods.lab.kubectl("get", "pods", "-n", pods.namespace, "-o", "json")
    uids = [item["metadata"]["uid"] for item in json.loads(text)["items"]]
    assert len(uids) == len(names)
    pods.delete(*names)
    for uid in uids:
        assert pods.processes(uid) == []


def test_kubectl_logs_shows_what_a_container_printed(pods: Pods) -> None:
    pods.apply(shell("chatty", "echo one; echo two; sleep 1; echo three"))
    pods.wait("chatty", "condition=Ready")
    logs = ("logs", "chatty", "-n", pods.namespace)
    assert pods.lab.kubectl(*logs, "--follow") == "one\ntwo\nthree\n"
    assert pods.lab.kubectl(*logs, "--tail=1") == "three\n"


def test_a_forced_delete_ends_the_process_at_once(pods: Pods) -> None:
    pods.apply(shell("forced", "trap '' TERM; while :; do sleep 1; done", restart="Always"))
    pods.wait("forced", "condition=Ready")
    uid = pods.get("forced")["metadata"]["uid"]
    pods.lab.kubectl("delete", "pod", "forced", "-n", pods.namespace, "--grace-period=0", "--force")
    until(lambda: pods.processes(uid) == [])


def test_a_pod_that_no_node_fits_stays_pending_with_the_reason(pods: Pods) -> None:
    body = agent("picky")
    body["spec"]["nodeSelector"] = {"gpu": "yes"}
    pods.apply(body)
    pods.wait("picky", "condition=PodScheduled=false")
    condition = pods.get("picky")["status"]["conditions"][0]
    assert condition["reason"] == "Unschedulable"
    assert "gpu=yes" in condition["message"]


@pytest.fixture(scope="module")
def breakable() -> Iterator[Lab]:
    """A lab of this module's own, whose parts may be killed."""
    with Lab.up("node-breakage", without=("envoy", "envoy-gateway", "prometheus")) as lab:
        yield lab


def test_pods_run_again_after_the_node_agent_was_killed(breakable: Lab) -> None:
    pods = Pods(breakable, "default")
    pods.apply(agent("survivor"))
    pods.wait("survivor", "condition=Ready")
    before = pods.get("survivor")
    breakable.part("kill", "node")
    breakable.part("start", "node")
    until(lambda: pods.container("survivor")["restartCount"] == 1)
    pods.wait("survivor", "condition=Ready")
    after = pods.get("survivor")["status"]
    assert after["podIP"] == before["status"]["podIP"]
    assert len(pods.processes(before["metadata"]["uid"])) == 1
    assert "agent_requests_total" in pods.fetch(f"http://{after['podIP']}:8080/metrics")


def test_the_node_agent_outlives_a_restart_of_the_api_server(breakable: Lab) -> None:
    pods = Pods(breakable, "default")
    pods.apply(agent("before"))
    pods.wait("before", "condition=Ready")
    breakable.part("restart", "kube-apiserver")

    def applied() -> bool:
        try:
            pods.apply(agent("after"))
        except LabError:
            return False
        return True

    until(applied)
    pods.wait("after", "condition=Ready")
    assert pods.container("before")["restartCount"] == 0
    pods.delete("before", "after")
