"""What a lab promises about coming, staying and going. Each test here has labs of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import Lab
from lab.errors import AlreadyRunning, LabError, NotRunning
from lab.handle import launch, wait_until_ready
from lab.paths import State, checkout
from lab.sandbox.host import wait_for_end
from lab.sandbox.namespaces import supervisor_pid

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

# Enough of a lab where only processes matter; comes up in some seconds.
SMALL = ("envoy-gateway", "envoy", "prometheus", "node")
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "prometheus", "envoy-gateway")


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State directories of the test's own; the name is long on purpose (unix sockets)."""
    deep = tmp_path / ("deep-" * 20)
    monkeypatch.setenv("PHASEGATE_LAB_STATE", str(deep))


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A whole lab of this module's own, with forwards, whose parts may be broken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHASEGATE_LAB_STATE", str(tmp_path_factory.mktemp("labs")))
        forwards = ("0:apiserver", "0:gateway", "0:prometheus")
        with Lab.up("breakable", forwards=forwards) as lab:
            yield lab


def until(check: Callable[[], bool]) -> None:
    """Wait for a condition; the test's time limit is the deadline."""
    pause = threading.Event()
    while not check():
        pause.wait(0.05)


def gone(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class Traces:
    """What a lab could leave behind."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.namespace = Path(f"/proc/{supervisor_pid(state)}/ns/pid").readlink()

    def processes(self) -> list[str]:
        """Command lines of all processes in the lab's PID namespace."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (entry / "ns/pid").readlink() == self.namespace:
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # ended meanwhile
        return found

    def mounts(self) -> list[str]:
        """Mounts of the host that name the lab's directory."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in lines if str(self.state.dir) in line]

    def files(self) -> set[str]:
        return {entry.name for entry in self.state.dir.iterdir()}


def assert_nothing_left(traces: Traces) -> None:
    wait_for_end(traces.state)
    assert traces.processes() == []
    assert traces.mounts() == []
    assert traces.files() <= {"lock", "log"}
    with pytest.raises(NotRunning, match="lab up --name"):
        Lab.attach(traces.state.name)


def described(lab: Lab, name: str) -> dict[str, object]:
    """What the status says of one part."""
    (part,) = [part for part in lab.status()["parts"] if part["part"] == name]
    return dict(part)


def lab_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lab", *arguments]
    return subprocess.run(command, cwd=checkout(), capture_output=True, text=True, check=False)


def test_down_leaves_no_process_no_mount_and_only_logs() -> None:
    state = State.of("down")
    process = launch(state, without=SMALL, session=True)
    wait_until_ready(state, process)
    traces = Traces(state)
    assert any("kube-apiserver" in line for line in traces.processes())

    done = lab_command("down", "--name", "down")

    assert (done.returncode, done.stdout) == (0, "lab down: ended\n")
    assert process.wait() == 0
    assert_nothing_left(traces)
    assert "ready after" in state.output.read_text()


def test_interrupt_ends_the_lab() -> None:
    state = State.of("interrupted")
    process = launch(state, without=SMALL)
    wait_until_ready(state, process)
    traces = Traces(state)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    assert_nothing_left(traces)


def test_sigkill_of_the_host_process_ends_the_lab() -> None:
    state = State.of("killed")
    process = launch(state, without=SMALL, session=True)
    wait_until_ready(state, process)
    traces = Traces(state)
    gone(process)
    assert_nothing_left(traces)


def test_sigkill_of_the_owner_ends_the_lab() -> None:
    program = (
        "import sys; from lab import Lab\n"
        f"with Lab.up('owned', without={SMALL}):\n"
        "    print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=checkout(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        traces = Traces(State.of("owned"))
        gone(owner)
    assert_nothing_left(traces)


def test_two_labs_side_by_side_know_nothing_of_each_other() -> None:
    with Lab.up("one", without=SMALL) as one, Lab.up("two", without=SMALL) as two:
        one.kubectl("create", "namespace", "only-in-one")
        assert "only-in-one" in one.kubectl("get", "namespaces")
        assert "only-in-one" not in two.kubectl("get", "namespaces")


def test_a_second_lab_of_the_same_name_is_refused() -> None:
    with Lab.up("same", without=SMALL) as lab:
        with pytest.raises(AlreadyRunning, match="another --name"), Lab.up("same"):
            pass
        done = lab_command("up", "--name", "same")
        assert done.returncode == 1
        assert "is running already" in done.stderr
        assert lab.status()["ready"]


def test_a_lab_can_come_up_again_after_it_ended() -> None:
    for _ in range(2):
        with Lab.up("again", without=SMALL) as lab:
            lab.kubectl("create", "namespace", "fresh")  # the first one's is gone


def test_shared_lab_is_brought_up_once_and_ends_with_its_owner() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:
        # The whole lab is too much for a test of sharing; the parts do not matter here.
        first = Lab.shared("shared", owner.pid)
        second = Lab.shared("shared", owner.pid)
        assert supervisor_pid(first.state) == supervisor_pid(second.state)
        traces = Traces(first.state)
        gone(owner)
    wait_for_end(first.state)
    assert traces.processes() == []


def test_refused_namespaces_are_told_in_one_message_with_two_ways_out() -> None:
    # A user namespace that allows no further ones, and no capabilities to do without.
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces; "
        'exec setpriv --bounding-set -all --inh-caps -all "$@"'
    )
    command = ["unshare", "-Ur", "sh", "-c", script, "sh", sys.executable, "-m", "lab", "up"]
    done = subprocess.run(command, cwd=checkout(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "user.max_user_namespaces" in done.stderr
    assert "as root" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--name", "Not_A_Name"), "not a name for a lab"),
        (("up", "--forward", "gateway"), "HOSTPORT:TARGET"),
        (("status", "--name", "nobody"), "There is no running lab 'nobody'"),
        (("exec", "--name", "nobody", "--", "true"), "There is no running lab 'nobody'"),
        (("logs", "--name", "nobody", "envoy"), "There is no log of 'envoy'"),
    ],
)
def test_a_mistake_is_told_without_a_traceback(arguments: tuple[str, ...], words: str) -> None:
    done = lab_command(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_every_part_is_up_and_none_in_the_hosts_network(breakable: Lab) -> None:
    status = breakable.status()
    parts = {part["part"]: part for part in status["parts"]}
    assert {*PARTS, "envoy", "node"} <= set(parts)
    assert {part["state"] for part in parts.values()} == {"up"}
    ours = Path("/proc/self/ns/net").readlink()
    namespace = Path(f"/proc/{supervisor_pid(breakable.state)}/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").readlink() == namespace:
                assert (entry / "ns/net").readlink() != ours, (entry / "cmdline").read_text()
        except OSError:
            continue  # ended meanwhile, or not ours to look at


def test_versions_are_those_of_releases(breakable: Lab) -> None:
    version = json.loads(breakable.kubectl("get", "--raw", "/version"))
    assert version["gitVersion"] == "v1.36.3"
    assert (version["major"], version["minor"]) == ("1", "36")


def test_forwards_lead_into_the_lab(breakable: Lab) -> None:
    with urllib.request.urlopen(f"{breakable.prometheus_url}/-/ready") as answer:
        assert answer.status == 200
    address = breakable.address("gateway")
    request = urllib.request.Request(
        f"http://{address}/healthz", headers={"Host": "gateway-health.invalid"}
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    outside = {**os.environ, "KUBECONFIG": str(breakable.kubeconfig)}
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "get", "nodes"], env=outside, capture_output=True, check=True)
    assert b"Ready" in done.stdout


def test_users_are_who_they_are_and_have_no_rights(breakable: Lab) -> None:
    who = breakable.kubectl("auth", "whoami", "-o", "json", user="bob")
    info = json.loads(who)["status"]["userInfo"]
    assert info["username"] == "bob"
    assert {"approvers", "qa"} <= set(info["groups"])
    with pytest.raises(LabError, match="forbidden"):
        breakable.kubectl("get", "pods", user="bob")


def test_exec_gives_exit_code_output_and_environment(breakable: Lab) -> None:
    done = breakable.exec(
        ["sh", "-c", "cat; echo $PHASEGATE_LAB; exit 7"], check=False, input="in "
    )
    assert (done.returncode, done.stdout) == (7, "in breakable\n")
    inside = "from lab import Lab; print(Lab.current().gateway_url)"
    assert breakable.exec([sys.executable, "-c", inside]).stdout == "http://10.244.0.1\n"


def test_an_executed_command_dies_with_its_caller(breakable: Lab) -> None:
    command = breakable.command(["sh", "-c", "echo $$; exec sleep 1000"])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        pid = caller.stdout.readline().strip().decode()
        assert breakable.exec(["test", "-d", f"/proc/{pid}"]).returncode == 0
        gone(caller)
    until(lambda: breakable.exec(["test", "-d", f"/proc/{pid}"], check=False).returncode == 1)


def test_a_part_that_dies_is_reported_and_can_be_started_again(breakable: Lab) -> None:
    breakable.exec(["kill", "-KILL", str(described(breakable, "prometheus")["pid"])])
    until(lambda: "prometheus has ended unexpectedly" in breakable.log("lab"))
    assert "was ended by SIGKILL" in breakable.log("lab")
    assert described(breakable, "prometheus")["state"] == "failed"

    breakable.part("start", "prometheus")

    assert described(breakable, "prometheus")["state"] == "up"
    with urllib.request.urlopen(f"{breakable.prometheus_url}/-/ready") as answer:
        assert answer.status == 200


def test_a_stopped_part_is_no_failure(breakable: Lab) -> None:
    breakable.part("stop", "prometheus")
    assert described(breakable, "prometheus")["state"] == "stopped"
    breakable.part("restart", "prometheus")
    assert described(breakable, "prometheus")["state"] == "up"


def test_a_paused_part_answers_again_when_it_goes_on(breakable: Lab) -> None:
    url = f"{breakable.prometheus_url}/-/ready"
    breakable.part("pause", "prometheus")
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(url, timeout=0.5)
    breakable.part("resume", "prometheus")
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200


def test_the_gateway_routes_after_its_controller_and_envoy_were_restarted(breakable: Lab) -> None:
    for part in ("envoy-gateway", "envoy"):
        breakable.part("restart", part)
    request = urllib.request.Request(
        f"http://{breakable.address('gateway')}/healthz",
        headers={"Host": "gateway-health.invalid"},
    )

    def routed() -> bool:
        try:
            with urllib.request.urlopen(request) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    until(routed)


def test_an_unknown_part_is_refused_with_the_names_there_are(breakable: Lab) -> None:
    with pytest.raises(LabError, match="kube-controller-manager"):
        breakable.part("stop", "kubelet")


def test_pods_are_scraped_under_their_revisions_labels(breakable: Lab) -> None:
    labels = {
        "phasegate.dev/agent": "support",
        "phasegate.dev/revision": "0123456789",
        "phasegate.dev/mode": "live",
    }
    container = {
        "name": "agent",
        "image": "phasegate.dev/sample-agent:1",
        "ports": [{"name": "http", "containerPort": 8080}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "scraped", "labels": labels},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }
    breakable.kubectl("apply", "-f", "-", input=json.dumps(pod))
    query = f'{breakable.prometheus_url}/api/v1/query?query=up{{agent="support"}}==1'

    def found() -> list[dict[str, dict[str, str]]]:
        with urllib.request.urlopen(query) as answer:
            return list(json.loads(answer.read())["data"]["result"])

    until(lambda: bool(found()))
    (series,) = found()
    wanted = {"namespace": "default", "pod": "scraped", "agent": "support"}
    assert {**wanted, "revision": "0123456789", "mode": "live"}.items() <= series["metric"].items()
