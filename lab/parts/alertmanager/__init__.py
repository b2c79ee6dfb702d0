"""Alertmanager, built from its pinned module when a test first needs it (minutes, once).

Its web page is not in the module (a release builds it with Node.js) and is embedded by its main:
it is built in a copy of the module, with its own go.mod and go.sum, and an empty page.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from lab.parts.build import Go, alone, environment
from lab.parts.toolchain import find
from lab.paths import cache_dir

_HERE: Final = Path(__file__).resolve().parent
_MODULE: Final = "github.com/prometheus/alertmanager"
_FLAGS: Final = ("-trimpath", "-ldflags=-s -w")
_PAGE: Final = "<!doctype html><title>Alertmanager without its page</title>\n"


def _say(line: str) -> None:
    print(f"lab parts: {line}", flush=True)


def alertmanager(cache: Path | None = None, say: Callable[[str], None] = _say) -> Path:
    """The program; built first if it is not there. Raises BuildFailed in the compiler's words."""
    cache = cache or cache_dir()
    toolchain = find(cache)
    digest = sha256(repr((toolchain.version, _FLAGS, _PAGE)).encode())
    for file in ("go.mod", "go.sum"):
        digest.update((_HERE / file).read_bytes())
    home = cache / "parts" / f"alertmanager-{digest.hexdigest()[:16]}"
    binary = home / "alertmanager"
    if binary.exists():
        return binary
    home.mkdir(parents=True, exist_ok=True)
    scratch = home / "scratch"
    with alone(home / "lock", say):
        if not binary.exists():
            env = environment(toolchain, scratch)
            copy = scratch / "module"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(Go(toolchain, env, say, _HERE, _FLAGS).module(_MODULE), copy)
            page = copy / "ui" / "app" / "dist" / "index.html"
            page.parent.mkdir(parents=True)
            page.write_text(_PAGE)
            go = Go(toolchain, env, say, copy, _FLAGS)
            go.build("alertmanager", "./cmd/alertmanager", binary)
            shutil.rmtree(scratch, ignore_errors=True)
    return binary
