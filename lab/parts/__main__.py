"""`python3 -m lab.parts`: build the parts now (any Python ≥ 3.11, nothing installed)."""

from __future__ import annotations

import signal
import sys

from lab.errors import LabError
from lab.parts.build import parts


def main() -> int:
    """Build, or say in a few lines why not."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends go with it
    try:
        parts()
    except LabError as error:
        print(f"lab parts: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lab parts: interrupted; the next build goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
