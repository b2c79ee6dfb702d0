"""One container of a pod: started, probed, restarted with back-off, ended with grace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lab.node.client import ApiError, Json
from lab.node.host import Host, log_path, now
from lab.node.probes import Check, ProbeTimes, network_check, run_probe
from lab.node.process import (
    POD_MARK,
    Launch,
    Process,
    StartError,
    inside,
    run_command,
    spawn,
)
from lab.node.spec import (
    PROJECT_ROOT,
    ConfigError,
    ImageError,
    PodFacts,
    base_environment,
    command_line,
    env_references,
    environment,
    is_sample_agent,
)
from lab.node.status import ContainerFacts, Running, Terminated, Waiting, restarts_after
from lab.node.volumes import container_mounts, volume_references, write_volumes

CONFIG_RETRY_S = 1.0
IMAGE_RETRY_S = 1.0


@dataclass(frozen=True)
class PodContext:
    """What the containers of one pod share."""

    host: Host
    pod: Json
    facts: PodFacts
    netns: int | None
    directory: Path

    @property
    def name(self) -> str:
        """The pod as messages name it: name_namespace(uid)."""
        metadata = self.pod["metadata"]
        return f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"


class Container:
    """Runs one container; ``changed`` is called whenever ``facts`` did."""

    def __init__(self, spec: Json, reason: str, restarts: int, changed: Callable[[], None]) -> None:
        self.spec = spec
        image, waiting = spec.get("image", ""), Waiting(reason)
        self.facts = ContainerFacts(spec["name"], image, waiting, restarts=restarts)
        self._changed = changed
        self._stopping = asyncio.Event()
        self._process: Process | None = None
        self._launch: Launch | None = None
        self._ending: asyncio.Task[None] | None = None

    def set(self, **fields: object) -> None:
        """Change some facts and tell the pod."""
        after = replace(self.facts, **fields)  # type: ignore[arg-type]
        if after != self.facts:
            self.facts = after
            self._changed()

    async def run(self, context: PodContext, policy: str) -> None:
        """Run until the container has ended for good."""
        failures = 0
        while not self._stopping.is_set():
            launch = await self._prepare(context)
            if launch is None:
                continue
            ended = await self._run_once(context, launch)
            if self._stopping.is_set() or not restarts_after(policy, ended.exit_code):
                self.set(state=ended, final=True)
                return
            ran = (ended.finished_at - ended.started_at).total_seconds()
            failures = 1 if context.host.back_off.forgets(ran) else failures + 1
            await self._back_off(context, ended, failures)
        self.set(final=True)

    async def _back_off(self, context: PodContext, ended: Terminated, failures: int) -> None:
        delay = context.host.back_off.delay(failures)
        if delay:
            words = f"restarting failed container={self.facts.name} pod={context.name}"
            message = f"back-off {delay:g}s {words}"
            self.set(state=Waiting("CrashLoopBackOff", message), last=ended)
            context.host.event(context.pod, "Warning", "BackOff", message)
            await self._pause(delay)
        if not self._stopping.is_set():
            self.set(last=ended, restarts=self.facts.restarts + 1)

    async def _pause(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _prepare(self, context: PodContext) -> Launch | None:
        """Find out what to start; None after having waited for what is missing."""
        try:
            return await self._plan(context)
        except ConfigError as error:
            self._waiting(context, "CreateContainerConfigError", f"Error: {error}")
            await self._pause(CONFIG_RETRY_S)
        except ImageError as error:
            self._waiting(context, "ErrImagePull", str(error))
            await self._pause(IMAGE_RETRY_S)
            back_off = f'Back-off pulling image "{self.facts.image}": ErrImagePull: {error}'
            self.set(state=Waiting("ImagePullBackOff", back_off))
            await self._pause(None)  # nothing about this pod can make the image appear
        except ApiError:
            await self._pause(CONFIG_RETRY_S)
        return None

    def _waiting(self, context: PodContext, reason: str, message: str) -> None:
        if self.facts.state != Waiting(reason, message):
            context.host.event(context.pod, "Warning", "Failed", message)
        self.set(state=Waiting(reason, message))

    async def _plan(self, context: PodContext) -> Launch:
        pod, facts = context.pod, context.facts
        wanted = {*env_references(self.spec), *volume_references(pod)}
        references = await context.host.references(pod["metadata"]["namespace"], wanted)
        volumes = write_volumes(pod, context.directory / "volumes", facts, references)
        own = environment(pod, self.spec, facts, references)
        argv = command_line(self.spec, own)
        scratch = context.directory / self.facts.name
        scratch.mkdir(parents=True, exist_ok=True)
        env = base_environment(pod, scratch) | own | {POD_MARK: str(context.directory)}
        if is_sample_agent(self.spec):
            env["PYTHONPATH"] = str(PROJECT_ROOT)
        metadata = pod["metadata"]
        log = log_path(
            context.host.directory, metadata["namespace"], metadata["name"], self.facts.name
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        return Launch(
            argv=argv,
            env=env,
            cwd=Path(self.spec.get("workingDir") or scratch),
            log=log,
            scratch=scratch,
            netns=context.netns,
            mounts=container_mounts(self.spec, volumes),
        )

    async def _run_once(self, context: PodContext, launch: Launch) -> Terminated:
        started = now()
        try:
            process = spawn(launch)
        except StartError as error:
            context.host.event(context.pod, "Warning", "Failed", f"Error: {error}")
            return Terminated(128, "StartError", started, now(), str(error))
        self._process, self._launch = process, launch
        self.set(state=Running(started), process_id=process.pid)
        health = asyncio.create_task(self._watch_health(context, process))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        finally:
            self._process = None
            health.cancel()
            await asyncio.gather(health, return_exceptions=True)
            self.set(ready=False, started=False)
        reason = "Completed" if code == 0 else "Error"
        exit_code = code if code >= 0 else 128 - code
        return Terminated(exit_code, reason, started, now(), self._last_words(launch, code))

    def _last_words(self, launch: Launch, code: int) -> str:
        policy = self.spec.get("terminationMessagePolicy", "File")
        if code == 0 or policy != "FallbackToLogsOnError":
            return ""
        with launch.log.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - 2048))
            return log.read().decode("utf-8", "replace")

    async def _watch_health(self, context: PodContext, process: Process) -> None:
        if "startupProbe" in self.spec:
            await self._await_startup(context, process)
        self.set(started=True, ready="readinessProbe" not in self.spec)
        async with asyncio.TaskGroup() as probes:
            for kind in ("readinessProbe", "livenessProbe"):
                if kind in self.spec:
                    probes.create_task(self._probe(context, process, kind, None))

    async def _await_startup(self, context: PodContext, process: Process) -> None:
        passed = asyncio.Event()
        probe = asyncio.create_task(self._probe(context, process, "startupProbe", passed))
        try:
            await passed.wait()
        finally:
            probe.cancel()

    async def _probe(
        self, context: PodContext, process: Process, kind: str, passed: asyncio.Event | None
    ) -> None:
        probe = self.spec[kind]
        word = kind.removesuffix("Probe")

        def report(good: bool, why: str) -> None:
            if not good:
                message = f"{word.capitalize()} probe failed: {why}"
                context.host.event(context.pod, "Warning", "Unhealthy", message)
            if kind == "readinessProbe":
                self.set(ready=good)
            elif not good:
                self._restart(context, process, probe, word)
            elif passed is not None:
                passed.set()

        try:
            check = self._check(context, process, probe)
        except ConfigError as error:
            report(False, str(error))
            return
        await run_probe(ProbeTimes.of(probe), check, report)

    def _check(self, context: PodContext, process: Process, probe: Json) -> Check:
        check = network_check(probe, self.spec, context.facts.pod_ip, context.host.probing)
        if check is not None:
            return check
        if "exec" not in probe:
            raise ConfigError("only httpGet, tcpSocket and exec probes are supported by the lab")
        command, timeout = tuple(probe["exec"]["command"]), ProbeTimes.of(probe).timeout

        async def attempt() -> str | None:
            try:
                code, output = await self._exec(process, command, timeout)
            except TimeoutError:
                return f"command {command[0]!r}: no end in {timeout} s"
            return None if code == 0 else output or f"exit code {code}"

        return attempt

    async def _exec(
        self, process: Process, command: tuple[str, ...], limit: float
    ) -> tuple[int, str]:
        assert self._launch is not None
        words = inside(process.pid, self._launch.netns, bool(self._launch.mounts))
        return await run_command((*words, *command), self._launch.env, limit)

    def _restart(self, context: PodContext, process: Process, probe: Json, word: str) -> None:
        message = f"Container {self.facts.name} failed {word} probe, will be restarted"
        context.host.event(context.pod, "Normal", "Killing", message)
        pod_grace = context.pod["spec"].get("terminationGracePeriodSeconds", 30)
        grace = probe.get("terminationGracePeriodSeconds", pod_grace)
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace
        self._ending = asyncio.create_task(self._end(process, lambda: deadline - clock()))

    async def stop(self, remaining: Callable[[], float]) -> None:
        """End the container for good; ``remaining()`` is the grace left, in seconds."""
        self._stopping.set()
        if self._process is not None:
            await self._end(self._process, remaining)

    async def _end(self, process: Process, remaining: Callable[[], float]) -> None:
        await self._pre_stop(process, remaining())
        process.terminate()
        while remaining() > 0:  # in short waits: the grace may be shortened meanwhile
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), min(remaining(), 0.5))
                return
        process.kill()
        await process.wait()

    async def _pre_stop(self, process: Process, limit: float) -> None:
        hook = (self.spec.get("lifecycle") or {}).get("preStop") or {}
        with contextlib.suppress(TimeoutError):
            if "sleep" in hook:
                wait = min(hook["sleep"]["seconds"], max(limit, 0))
                await asyncio.wait_for(process.wait(), wait)
            elif "exec" in hook:
                await self._exec(process, tuple(hook["exec"]["command"]), limit)
