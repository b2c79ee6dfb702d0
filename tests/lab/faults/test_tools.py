"""The tools of the fault tests do what they say, on the real API server and the real operator."""

from __future__ import annotations

import pytest

from lab.faults import Answer, Call, Cut, Hang, Match, Seen
from tests.lab.faults.scene import Scene
from tests.lab.main_job.cluster import until
from tests.lab.main_job.story import says

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

STATUS = Match(verbs=["patch"], plural="agentdeployments", subresource="status")


def test_an_operator_behind_a_proxy_meets_each_kind_of_fault_and_goes_on(scene: Scene) -> None:
    proxy, operator = scene.proxy, scene.operator
    routes = Match(verbs=["apply", "create"], plural="httproutes")
    with proxy.rule(routes, Answer(500, "no routes today")) as refused:
        scene.story.create()
        until("a route is refused", lambda: refused.hits >= 2)
        assert scene.api.list("httproutes") == []
    scene.story.ready()
    assert any(routes(seen) and seen.status in (200, 201) for seen in proxy.seen)

    with proxy.rule(Match(verbs=["get", "list"]), Cut(), times=3) as cut:
        operator.kill()
        assert not operator.running
        operator.start()
        until("three reads are cut off", lambda: cut.hits == 3)
    until("it is ready again", operator.ready)

    killed: list[Seen] = []

    def kill(seen: Seen) -> bool:
        operator.kill()
        killed.append(seen)
        return False

    with proxy.rule(STATUS, Call(before=kill), times=1):
        scene.story.change(replicas=2)
        until("it is killed before a write", lambda: killed and not operator.running)
    before = scene.api.get("agentdeployments", "support")["status"]["observedGeneration"]
    assert before == 1
    with proxy.rule(STATUS, Hang(), times=1):
        operator.start()
        scene.story.until("it goes on", lambda seen: says(seen, "Ready") == "True")
    assert operator.metric("phasegate_api_requests_total", code="timeout") == 1
