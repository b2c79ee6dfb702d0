"""VictoriaMetrics, the second store that the Prometheus adapter is tried on.

Taken from Debian's package, which apt authenticates; unpacked into the cache, nothing is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from lab.errors import BuildFailed
from lab.paths import cache_dir

PACKAGE = "victoria-metrics"
VERSION = "1.79.5+ds1-2+b5"


def victoria_metrics(cache: Path | None = None) -> Path:
    """The server's binary; fetched first if it is not there.

    Raises BuildFailed where there is no apt, or it does not know the package.
    """
    home = (cache or cache_dir()) / "parts" / f"{PACKAGE}-{VERSION}"
    binary = home / "usr" / "bin" / "victoria-metrics"
    if binary.exists():
        return binary
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise BuildFailed(f"{PACKAGE} comes from Debian's package: there is no {missing[0]} here.")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".fetching-") as scratch:
        _run(["apt-get", "--quiet", "download", f"{PACKAGE}={VERSION}"], Path(scratch))
        (package,) = Path(scratch).glob("*.deb")
        unpacked = Path(scratch) / "unpacked"
        _run(["dpkg-deb", "--extract", str(package), str(unpacked)], Path(scratch))
        try:
            unpacked.rename(home)
        except OSError:
            if not binary.exists():  # else somebody else was faster
                raise
    return binary


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
