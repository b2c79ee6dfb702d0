"""Build the Go parts once, into the cache. Standard library only.

A build is keyed by everything that decides its result: go.mod, go.sum, our one main, flags,
toolchain. Each finished binary is moved into place at once and the Go build cache stays until the
last one is done, so an interrupted build goes on where it stopped. One build at a time (flock).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lab.errors import BuildFailed
from lab.parts.toolchain import PARTS_DIR, Toolchain, find
from lab.paths import cache_dir

KUBERNETES = "v1.36.3"
_VERSION = "k8s.io/component-base/version"
# Built as a module, kube-apiserver calls itself "v0.0.0-master+$Format:%H$", which Helm and
# others refuse; a release build sets these at link time, and so do we.
_STAMPS = {
    "gitVersion": KUBERNETES,
    "gitMajor": "1",
    "gitMinor": "36",
    "gitTreeState": "clean",
}
_FLAGS = (
    "-trimpath",
    "-tags=remove_all_sd,enable_kubernetes_sd",
    "-ldflags=-s -w " + " ".join(f"-X {_VERSION}.{k}={v}" for k, v in _STAMPS.items()),
)
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
    "promtool": "github.com/prometheus/prometheus/cmd/promtool",
    "envoy-gateway": "github.com/envoyproxy/gateway/cmd/envoy-gateway",
    "kstatus": "./kstatus",  # a main of ours around the library
}
# CRDs that are shipped inside the modules: module -> folders of YAML files in it.
_CRDS = {
    "sigs.k8s.io/gateway-api": "config/crd/experimental",
    "github.com/envoyproxy/gateway": "charts/gateway-helm/charts/crds/crds/generated",
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """A finished build."""

    dir: Path

    def binary(self, name: str) -> Path:
        """The path of one binary, such as `etcd`."""
        return self.dir / "bin" / name

    @property
    def crds(self) -> Path:
        """The folder of the Gateway API's and Envoy Gateway's CRDs (YAML)."""
        return self.dir / "crds"

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return (self.dir / "complete").exists()


def _say(line: str) -> None:
    print(f"lab parts: {line}", flush=True)


def parts(cache: Path | None = None, say: Say = _say) -> Parts:
    """The built parts; builds what is missing first (minutes) and tells so line by line.

    Raises BuildFailed with the compiler's last words.
    """
    cache = cache or cache_dir()
    toolchain = find(cache)
    result = Parts(cache / "parts" / _key(toolchain))
    if result.complete:
        return result
    result.dir.mkdir(parents=True, exist_ok=True)
    with alone(cache / "parts" / "lock", say):
        if not result.complete:
            _build(result, toolchain, cache, say)
    return result


def _key(toolchain: Toolchain) -> str:
    digest = sha256()
    for file in ("go.mod", "go.sum", "kstatus/main.go"):
        digest.update((PARTS_DIR / file).read_bytes())
    digest.update(repr((_FLAGS, _PACKAGES, _CRDS, toolchain.version)).encode())
    return digest.hexdigest()[:16]


@contextmanager
def alone(lock: Path, say: Say) -> Iterator[None]:
    """One build at a time: waits while another process holds the lock."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building them; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment(toolchain: Toolchain, scratch: Path) -> dict[str, str]:
    """What the go command runs in; its caches are in `scratch` unless the user says otherwise."""
    # Own caches, thrown away when all is built (4 GB); somebody who sets GOCACHE or GOMODCACHE
    # wants them used, and keeps them.
    own = {
        "GOCACHE": os.environ.get("GOCACHE") or str(scratch / "build"),
        "GOMODCACHE": os.environ.get("GOMODCACHE") or str(scratch / "modules"),
    }
    fixed = {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false",
        "PATH": f"{toolchain.go.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    return {**os.environ, **own, **fixed}


def _build(result: Parts, toolchain: Toolchain, cache: Path, say: Say) -> None:
    started = time.monotonic()
    say(f"building {len(_PACKAGES)} parts once with {toolchain.version}, some minutes")
    scratch = cache / "parts" / "scratch"
    go = Go(toolchain, environment(toolchain, scratch), say)
    (result.dir / "bin").mkdir(exist_ok=True)
    for number, (name, package) in enumerate(_PACKAGES.items(), start=1):
        if result.binary(name).exists():
            say(f"[{number}/{len(_PACKAGES)}] {name}: already built")
        else:
            go.build(f"[{number}/{len(_PACKAGES)}] {name}", package, result.binary(name))
    _copy_crds(go, result.crds)
    seconds = f"{time.monotonic() - started:.0f}"
    (result.dir / "complete").write_text(seconds)
    shutil.rmtree(scratch, ignore_errors=True)
    say(f"all there after {seconds} s, in {result.dir}")


def _copy_crds(go: Go, target: Path) -> None:
    unfinished = target.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for module, folder in _CRDS.items():
        for file in sorted((go.module(module) / folder).glob("*.yaml")):
            # The modules' folders also hold a kustomization and an admission policy.
            if "kind: CustomResourceDefinition\n" in file.read_text():
                shutil.copyfile(file, unfinished / file.name)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


@dataclass(frozen=True)
class Go:
    """Runs the go command in the folder of a go.mod."""

    toolchain: Toolchain
    env: dict[str, str]
    say: Say
    folder: Path = PARTS_DIR
    flags: tuple[str, ...] = _FLAGS

    def build(self, title: str, package: str, target: Path) -> None:
        """One binary, moved to `target` when complete; a line every 15 s meanwhile."""
        self.say(f"{title} …")
        started = time.monotonic()
        unfinished = target.with_name(f".{target.name}.unfinished")
        command = [
            str(self.toolchain.go),
            "build",
            "-v",
            *self.flags,
            "-o",
            str(unfinished),
            package,
        ]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        ) as process:
            try:
                words, compiled = self._follow(process, title, started)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)  # go and its compilers
                raise
        if process.returncode != 0:
            raise BuildFailed(f"{title}: go build failed.\n" + "\n".join(words[-30:]))
        unfinished.rename(target)
        self.say(f"{title}: {compiled} packages, {time.monotonic() - started:.0f} s")

    def _follow(
        self, process: subprocess.Popen[str], title: str, started: float
    ) -> tuple[list[str], int]:
        """Read `go build -v`: a line per package; returns the last lines and the count."""
        assert process.stderr is not None
        words: list[str] = []
        compiled = fetched = 0
        told = started
        for line in process.stderr:
            words = [*words[-99:], line.rstrip()]
            fetched += line.startswith("go: downloading")
            compiled += not line.startswith(("go: ", "#"))
            if time.monotonic() - told > 15:
                told = time.monotonic()
                so_far = f"{compiled} packages" if compiled else f"{fetched} modules fetched"
                self.say(f"{title}: {so_far} so far, {told - started:.0f} s")
        return words, compiled

    def module(self, path: str) -> Path:
        """The folder of a module's source."""
        done = subprocess.run(
            [self.toolchain.go, "mod", "download", "-json", path],
            cwd=self.folder,
            env=self.env,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise BuildFailed(f"Could not fetch {path}: {done.stdout}{done.stderr}")
        return Path(json.loads(done.stdout)["Dir"])
