"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe() -> dict[str, str]:
    """Processor, memory, load, kernel and Python of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores, {_model()}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "load": f"{load} (1, 5, 15 min, before the benchmark)",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
