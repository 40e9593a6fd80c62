"""All numbers, one after the other: ``python -m benchmarks [PART …]``. Each part is also a module with options."""

from __future__ import annotations

import subprocess
import sys

PARTS = {
    "plan": ["benchmarks.plan"],
    "server": ["benchmarks.server"],
    "swaps": ["benchmarks.server", "--swap", "20"],
    "rollouts": ["benchmarks.rollouts"],
    "server-yolo": ["benchmarks.yolo"],
    "training": ["benchmarks.training"],
    "signals": ["benchmarks.signals"],
    "exports": ["benchmarks.exports"],
}


def main() -> int:
    """Run the parts that were named, or all; each in a process of its own, so that none warms another up."""
    chosen = sys.argv[1:] or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.stderr.write(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(PARTS)}\n")
        return 2
    codes = []
    for name in chosen:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        codes.append(subprocess.run([sys.executable, "-m", *PARTS[name]], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
