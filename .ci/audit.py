"""Asks the public list of known vulnerabilities about the pinned packages (`make check`).

A vulnerability fails the check. No network, a service that does not answer, or one that knows none
of the packages, does not: the check then says that it was skipped, and why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).with_name("constraints.txt")
LIMIT_SECONDS = 60
COMMAND = [
    sys.executable, "-m", "pip_audit", "--requirement", str(PINNED), "--no-deps", "--disable-pip",
    "--format", "json", "--progress-spinner", "off", "--timeout", "10",
]  # fmt: skip


def main() -> int:
    """Runs the audit and returns the exit code of the check."""
    try:
        done = subprocess.run(
            COMMAND, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return skipped(f"no answer in {LIMIT_SECONDS} s")
    except OSError as error:
        return skipped(str(error))
    return judge(done.stdout, done.stderr)


def judge(out: str, err: str) -> int:
    """Returns the exit code for what pip-audit printed, and prints what it means."""
    try:
        packages = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = err.strip().splitlines()
        return skipped(lines[-1] if lines else "no answer")
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return skipped("the service knows none of the packages")
    known = [(p["name"], p["version"], v["id"]) for p in asked for v in p["vulns"]]
    for name, version, vulnerability in known:
        print(f"dependency audit: {name} {version} has {vulnerability}")
    if not known:
        left = len(packages) - len(asked)
        print(f"dependency audit: {len(asked)} packages, none vulnerable; {left} not known")
    return 1 if known else 0


def skipped(why: str) -> int:
    """Says so."""
    print(f"dependency audit: skipped: {why[:200]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
