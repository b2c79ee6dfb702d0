"""The API server as a port, on a real one, with the operator's rights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from kubernetes.aio.client import ApiClient
from phasegate.adapters.access import Access
from phasegate.adapters.kubernetes import KubernetesCluster
from phasegate.api.errors import ClusterError, ConfigError, Conflict, NotFound, Refused
from phasegate.control import kinds
from phasegate.control.ports import Kind

from lab import Lab
from tests.lab.adapters.objects import agent, deployment, service

pytestmark = pytest.mark.lab


@pytest.fixture
def cluster(admin: KubernetesCluster) -> KubernetesCluster:
    """As somebody who may write what belongs to no agent: the client is what is tried here."""
    return admin


async def test_version_proves_that_the_server_answers(cluster: KubernetesCluster) -> None:
    assert (await cluster.version()).startswith("v1.")
    assert cluster.server.startswith("https://")


async def test_what_is_not_there_is_not_found(cluster: KubernetesCluster, namespace: str) -> None:
    with pytest.raises(NotFound, match='services "nothing" not found'):
        await cluster.get(kinds.SERVICE, namespace, "nothing")
    await cluster.delete(kinds.SERVICE, namespace, "nothing")


async def test_applying_the_same_again_changes_nothing(
    cluster: KubernetesCluster, namespace: str
) -> None:
    first = await cluster.apply(service(namespace, "a"))
    again = await cluster.apply(service(namespace, "a"))
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    (entry,) = [e for e in again["metadata"]["managedFields"] if e["manager"] == "phasegate"]
    assert entry["operation"] == "Apply"


async def test_a_field_that_is_no_longer_applied_goes(
    cluster: KubernetesCluster, namespace: str
) -> None:
    await cluster.apply(deployment(namespace, "a", args=["--verbose"]))
    applied = await cluster.apply(deployment(namespace, "a"))
    assert "args" not in applied["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("container", "words"),
    [
        ({"imagePullPolice": "Always"}, "imagePullPolice: field not declared in schema"),
        ({"image": ""}, "image: Required value"),
        ({"ports": [{"containerPort": "x"}]}, "containerPort: expected numeric"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "duplicate entries for key"),
    ],
)
async def test_a_dry_run_refuses_a_wrong_template_in_the_servers_words(
    cluster: KubernetesCluster, namespace: str, container: dict[str, object], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        await cluster.apply(deployment(namespace, "a", **container), dry_run=True)
    assert words in str(caught.value)


async def test_text_of_every_script_arrives_as_it_was_applied(
    cluster: KubernetesCluster, namespace: str
) -> None:
    points = (*range(1, 0xD800), *range(0xE000, 0x10000), 0x10000, 0x1F9ED, 0x10FFFF)
    text = "".join(map(chr, points))
    variable = {"name": "TEXT", "value": text}
    applied = await cluster.apply(deployment(namespace, "a", env=[variable]), dry_run=True)
    (container,) = applied["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [variable]


async def test_a_dry_run_creates_nothing(cluster: KubernetesCluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace, "a"), dry_run=True)
    with pytest.raises(NotFound):
        await cluster.get(kinds.DEPLOYMENT, namespace, "a")


async def test_creating_twice_is_a_conflict(cluster: KubernetesCluster, namespace: str) -> None:
    await cluster.create(service(namespace, "a"))
    with pytest.raises(Conflict, match="already exists"):
        await cluster.create(service(namespace, "a"))


async def test_what_the_shipped_rights_do_not_allow_is_refused(
    operator: KubernetesCluster, namespace: str
) -> None:
    with pytest.raises(Refused, match="forbidden"):
        await operator.get(Kind("v1", "Secret", "secrets"), namespace, "anything")
    with pytest.raises(Refused, match="forbidden"):
        await operator.create(agent(namespace))


async def test_a_status_is_replaced_and_not_merged(
    operator: KubernetesCluster, admin: KubernetesCluster, namespace: str
) -> None:
    made = await admin.create(agent(namespace))
    version = made["metadata"]["resourceVersion"]

    async def set_status(status: dict[str, object], version: str | None) -> dict[str, object]:
        written = await operator.patch_status(
            kinds.AGENT_DEPLOYMENT, namespace, "support", status, version
        )
        return dict(written["status"])

    first = {"phase": "Canary", "weight": 5, "stableRevision": "aaaaaaaaaa", "message": None}
    assert await set_status(first, version) == {
        "phase": "Canary",
        "weight": 5,
        "stableRevision": "aaaaaaaaaa",
    }
    with pytest.raises(Conflict, match="modified"):
        await set_status({"phase": "Stable"}, version)
    assert await set_status({"phase": "Stable"}, None) == {"phase": "Stable"}


async def test_a_failed_test_of_a_patch_is_a_conflict(
    cluster: KubernetesCluster, namespace: str
) -> None:
    made = await cluster.create(service(namespace, "a"))
    version = made["metadata"]["resourceVersion"]
    label = {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}
    guard = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    await cluster.patch(kinds.SERVICE, namespace, "a", [guard, label])
    with pytest.raises(Conflict):
        await cluster.patch(kinds.SERVICE, namespace, "a", [guard, label])
    stale = {"metadata": {"resourceVersion": version, "labels": {"a": "c"}}}
    with pytest.raises(Conflict, match="modified"):
        await cluster.patch(kinds.SERVICE, namespace, "a", stale)


async def test_an_object_that_was_replaced_is_not_deleted(
    cluster: KubernetesCluster, namespace: str
) -> None:
    made = await cluster.create(service(namespace, "a"))
    await cluster.delete(kinds.SERVICE, namespace, "a", uid="another")
    assert await cluster.get(kinds.SERVICE, namespace, "a")
    await cluster.delete(kinds.SERVICE, namespace, "a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await cluster.get(kinds.SERVICE, namespace, "a")


async def test_a_list_is_whole_over_all_pages_and_says_what_its_items_are(
    cluster: KubernetesCluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phasegate.adapters.kubernetes.PAGE", 2)
    for number in range(5):
        made = deployment(namespace, f"d{number}")
        made["metadata"]["labels"] = {"odd": str(number % 2)}
        await cluster.apply(made)
    everything = await cluster.list(kinds.DEPLOYMENT, namespace)
    assert sorted(item["metadata"]["name"] for item in everything) == [f"d{n}" for n in range(5)]
    assert {(item["apiVersion"], item["kind"]) for item in everything} == {
        ("apps/v1", "Deployment")
    }
    assert len(await cluster.list(kinds.DEPLOYMENT, namespace, "odd=1")) == 2


async def test_a_new_token_is_read_when_the_old_one_is_refused(
    access: Access, tmp_path: Path
) -> None:
    assert access.kubeconfig is not None
    good = access.kubeconfig.read_text()
    file = tmp_path / "kubeconfig"
    file.write_text(good.replace("token: ", "token: not-"))
    rotated = Access(file)
    cluster = await KubernetesCluster.connect(rotated)
    with pytest.raises(ClusterError, match="Unauthorized"):
        await cluster.version()
    file.write_text(good)
    assert await cluster.version()
    await cluster.close()


async def test_every_call_is_counted(access: Access, namespace: str) -> None:
    calls: list[tuple[str, str]] = []
    cluster = await KubernetesCluster.connect(
        access, on_call=lambda verb, code: calls.append((verb, code))
    )
    await cluster.version()
    with pytest.raises(NotFound):
        await cluster.get(kinds.SERVICE, namespace, "nothing")
    await cluster.close()
    assert calls == [("GET", "200"), ("GET", "404")]


async def test_a_server_that_is_silent_or_gone_is_an_error_within_the_deadline(
    access: Access,
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    configuration = await access.load()
    configuration.host = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    calls: list[tuple[str, str]] = []
    cluster = KubernetesCluster(
        access,
        ApiClient(configuration),
        deadline=0.05,
        on_call=lambda verb, code: calls.append((verb, code)),
    )
    with pytest.raises(ClusterError, match=r"did not answer within 0\.05 s \(GET /version\)"):
        await cluster.version()
    server.close()
    await server.wait_closed()
    with pytest.raises(ClusterError, match="Cannot reach the API server"):
        await cluster.version()
    await cluster.close()
    assert [code for _, code in calls] == ["timeout", "unreachable"]


async def test_a_kind_that_nobody_told_of_is_not_written(cluster: KubernetesCluster) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "x", "name": "y"}}
    with pytest.raises(ClusterError, match="v1 Secret is not a kind that Phasegate writes"):
        await cluster.apply(secret)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), ("a: [", "kubeconfig"), ("{}", "current-context")],
)
async def test_credentials_that_cannot_be_used_are_one_sentence(
    tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match=words):
        await Access(file).load()


async def test_outside_of_a_pod_and_without_a_file_it_is_said_what_was_tried(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"\.kube/config: there is no such file"):
        await Access().load({})
    with pytest.raises(ConfigError, match="the pod's service account"):
        await Access().load({"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
