"""Argo Rollouts and Flagger, built once from their pinned Go modules, as the lab builds its parts.

Each has a go.mod of its own: together they would be built with libraries that neither was
released with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

from lab.parts.build import Go, alone, environment
from lab.parts.toolchain import Toolchain, find
from lab.paths import cache_dir

_HERE: Final = Path(__file__).resolve().parent
_FLAGS: Final = ("-trimpath", "-ldflags=-s -w")


@dataclass(frozen=True)
class Module:
    """A module: its path, the main package in it, and where its CRDs are."""

    path: str
    package: str
    crds: str


MODULES: Final = MappingProxyType(
    {
        "argo-rollouts": Module(
            "github.com/argoproj/argo-rollouts",
            "cmd/rollouts-controller",
            "manifests/crds/*-crd.yaml",
        ),
        "flagger": Module("github.com/fluxcd/flagger", "cmd/flagger", "artifacts/flagger/crd.yaml"),
    }
)


@dataclass(frozen=True)
class Peers:
    """Both, built."""

    dir: Path

    def binary(self, name: str) -> Path:
        """The program of `argo-rollouts` or `flagger`."""
        return self.dir / name / "bin"

    def crds(self, name: str) -> list[Path]:
        """Its CRDs (YAML)."""
        return sorted((self.dir / name / "crds").glob("*.yaml"))


def version(name: str) -> str:
    """The pinned version, from go.mod."""
    words = (_HERE / name / "go.mod").read_text().split()
    return words[words.index(MODULES[name].path, words.index("require")) + 1]


def _say(line: str) -> None:
    print(f"bench peers: {line}", flush=True)


def peers(say: Callable[[str], None] = _say) -> Peers:
    """Both; builds what is missing first (minutes). Raises BuildFailed in the compiler's words."""
    cache = cache_dir()
    toolchain = find(cache)
    home = cache / "peers" / _key(toolchain)
    home.mkdir(parents=True, exist_ok=True)
    scratch = cache / "peers" / "scratch"
    with alone(cache / "peers" / "lock", say):
        for number, (name, module) in enumerate(MODULES.items(), start=1):
            if not (home / name).exists():
                go = Go(toolchain, environment(toolchain, scratch), say, _HERE / name, _FLAGS)
                _build(go, f"[{number}/{len(MODULES)}] {name}", module, home / name)
        shutil.rmtree(scratch, ignore_errors=True)
    return Peers(home)


def _build(go: Go, title: str, module: Module, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "crds").mkdir(parents=True)
    go.build(title, f"{module.path}/{module.package}", unfinished / "bin")
    for file in go.module(module.path).glob(module.crds):
        shutil.copyfile(file, unfinished / "crds" / file.name)
    unfinished.rename(target)


def _key(toolchain: Toolchain) -> str:
    digest = sha256(toolchain.version.encode())
    for name in MODULES:
        for file in ("go.mod", "go.sum"):
            digest.update((_HERE / name / file).read_bytes())
    digest.update(repr((_FLAGS, MODULES)).encode())
    return digest.hexdigest()[:16]
