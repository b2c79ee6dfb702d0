"""`python -m bench`: the benchmark of the main job."""

from __future__ import annotations

import sys

from bench.main_job import main

if __name__ == "__main__":
    sys.exit(main())
