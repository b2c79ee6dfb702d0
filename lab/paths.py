"""Where the lab keeps things: a cache to be shared and a state directory for each lab.

Nothing else on the host is written by the lab.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

# A name becomes a directory and shows up in messages; the rule is that of a DNS label.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")

DEFAULT_NAME = "default"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory for what is built or fetched once: `PHASEGATE_CACHE`, else the XDG cache."""
    if chosen := environ.get("PHASEGATE_CACHE"):
        return Path(chosen).absolute()
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "phasegate"


def state_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory that holds one directory per lab: `PHASEGATE_LAB_STATE`, else the XDG state."""
    if chosen := environ.get("PHASEGATE_LAB_STATE"):
        return Path(chosen).absolute()
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "phasegate" / "lab"


def checkout() -> Path:
    """The root of the checkout this package is run from (holds `config/`, `crds/`)."""
    return Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class State:
    """The files of one lab."""

    name: str
    dir: Path

    @classmethod
    def of(cls, name: str) -> State:
        """The state of the lab called `name`; LabError if that is not a usable name."""
        if not _NAME.fullmatch(name):
            raise LabError(
                f"{name!r} is not a name for a lab: use up to 40 lower-case letters, digits and "
                "dashes, such as 'demo' or 'ci-2'."
            )
        return cls(name, state_root() / name)

    @property
    def lock(self) -> Path:
        """Held (flock) for as long as any process of the lab is alive."""
        return self.dir / "lock"

    @property
    def first(self) -> Path:
        """Held (flock) by whoever brings up a lab that several are going to share."""
        return self.dir / "first"

    @property
    def control(self) -> Path:
        """The unix socket on which the lab takes requests."""
        return self.dir / "control.sock"

    @property
    def ready(self) -> Path:
        """Written when the lab is up: a JSON object of addresses and files."""
        return self.dir / "ready.json"

    @property
    def forwards(self) -> Path:
        """A JSON object: target inside the lab -> host:port outside that leads there."""
        return self.dir / "forwards.json"

    @property
    def output(self) -> Path:
        """What the lab says about itself when it has no terminal (`lab logs lab`)."""
        return self.log("lab")

    @property
    def logs(self) -> Path:
        """One file per part."""
        return self.dir / "log"

    @property
    def tmp(self) -> Path:
        """TMPDIR of every part, so that nothing lands in the host's /tmp."""
        return self.dir / "tmp"

    def log(self, part: str) -> Path:
        """The log file of one part."""
        return self.logs / f"{part}.log"

    def kubeconfig(self, user: str) -> Path:
        """The kubeconfig of one of the lab's users."""
        return self.dir / "kubeconfig" / f"{user}.yaml"


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Another name of `path` that fits the 108 bytes of a unix socket's address.

    State directories may lie deep (a test's temporary directory), so the parent directory is
    opened and named through /proc.
    """
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
