"""Give a process its own view of the files, then become that process.

Run by path with ``python -I -S``, so standard library only:
``enter.py PLAN SCRATCH COMMAND…``, PLAN = {"mounts": [{source, target, read_only}], "cwd"}.
A target whose directory does not exist is made on a tmpfs that shows the old entries around
it: nothing is ever created in the machine's own directories.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000
# nosuid, nodev, noexec, noatime: a remount in a user namespace must keep what is set.
LOCKED_FLAGS = 0x2 | 0x4 | 0x8 | 0x400


def fail(message: str) -> None:
    """End with one sentence and the code a container runtime uses."""
    sys.stderr.write(f"cannot set up the container: {message}\n")
    sys.exit(128)


def call(what: str, result: int) -> None:
    """Raise OSError for a libc call that failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def make(path: Path, is_directory: bool) -> None:
    """Make an empty directory or file to mount something on."""
    if is_directory:
        path.mkdir(exist_ok=True)
    else:
        path.touch()


class Files:
    """Mounts in this process's private mount namespace."""

    def __init__(self, scratch: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._scratch = scratch
        self._count = 0
        call("unshare", self._libc.unshare(CLONE_NEWNS))
        self._mount("none", "/", None, MS_REC | MS_PRIVATE)

    def _mount(self, source: str, target: str, kind: str | None, flags: int) -> None:
        kind_bytes = None if kind is None else kind.encode()
        arguments = (source.encode(), target.encode(), kind_bytes, flags, None)
        call(f"mount {source} on {target}", self._libc.mount(*arguments))

    def bind(self, source: str, target: str, read_only: bool) -> None:
        """Show ``source`` at ``target``, making the target first if it is not there."""
        if not Path(target).exists():
            self._make(Path(target), Path(source).is_dir())
        self._mount(source, target, None, MS_BIND | MS_REC)
        if read_only:
            locked = os.statvfs(target).f_flag & LOCKED_FLAGS
            self._mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | locked)

    def _make(self, target: Path, is_directory: bool) -> None:
        self._open_up(next(parent for parent in target.parents if parent.is_dir()))
        target.parent.mkdir(parents=True, exist_ok=True)
        make(target, is_directory)

    def _open_up(self, directory: Path) -> None:
        """Put a tmpfs with the same entries in a directory's place."""
        self._count += 1
        copy = self._scratch / f"view-{os.getpid()}-{self._count}"
        copy.mkdir()
        self._mount("tmpfs", str(copy), "tmpfs", 0)
        for original in directory.iterdir():
            shown = copy / original.name
            if original.is_symlink():
                shown.symlink_to(original.readlink())
            else:
                make(shown, original.is_dir())
                self._mount(str(original), str(shown), None, MS_BIND | MS_REC)
        if directory == Path("/"):
            os.chroot(copy)
        else:
            self._mount(str(copy), str(directory), None, MS_BIND | MS_REC)


def main() -> None:
    """Set up the mounts of the plan and exec the command."""
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        files = Files(Path(sys.argv[2]))
        for item in sorted(plan["mounts"], key=lambda item: str(item["target"]).count("/")):
            files.bind(item["source"], item["target"].rstrip("/"), item["read_only"])
        os.chdir(plan["cwd"])
        os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606
    except OSError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
