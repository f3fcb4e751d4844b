"""The whole proof in one command: style, types, import rules, tests, and the console in a browser. Fails when any does.

python -m tests            further arguments go to pytest, and leave the browser out
"""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
PROCESSES = (os.cpu_count() or 1) + 1  # some tests wait for other programs, and for the clock
# Rewriting every assert takes a third of the time. A test that fails is run again by itself, and then shows its values.
ASSERTS = [] if sys.argv[1:] else ["--assert=plain"]
CHECKS = (
    ("ruff", [BIN / "ruff", "check", "."]),
    ("ruff", [BIN / "ruff", "format", "--check", "."]),
    ("mypy", [BIN / "mypy"]),
    ("import-linter", [BIN / "lint-imports"]),
    ("pytest", [sys.executable, "-m", "pytest", "-n", str(PROCESSES), *ASSERTS, *sys.argv[1:]]),
)
# In real time, with speech that is heard: when nothing else runs.
BROWSER = ("browser", [sys.executable, "-m", "pytest", "-m", "browser"])


def main() -> int:
    failed = []
    for name, command in CHECKS if sys.argv[1:] else (*CHECKS, BROWSER):
        print(f"— {name}", flush=True)
        if subprocess.run([str(word) for word in command], cwd=Path(__file__).parent.parent).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
