"""Are there known vulnerabilities in what is installed? Asks OSV about every pin of a requirements file, by pip-audit.

Fails for a vulnerability, and for whatever keeps pip-audit from asking; not for a service that cannot be reached, which
says nothing about the pins: then it says that nothing was audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# How pip-audit's failures are called that are the network's or the service's.
UNREACHABLE = ("ConnectionError", "Could not connect", "ServiceError", "Timeout", "ProxyError", "SSLError")


def main(requirements: str) -> int:
    program = str(Path(sys.executable).with_name("pip-audit"))
    options = ("--vulnerability-service", "osv", "--no-deps", "--disable-pip", "--progress-spinner", "off")
    command = [program, "--requirement", requirements, *options, "--format", "json", "--desc", "on"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if not asked.stdout.strip():
        if any(word in asked.stderr for word in UNREACHABLE):
            print(f"NOT AUDITED: the vulnerability service cannot be reached ({asked.stderr.strip().splitlines()[-1]})")
            return 0
        print(asked.stderr, file=sys.stderr)
        return 1
    pins = json.loads(asked.stdout)["dependencies"]
    skipped = [f"{pin['name']} ({pin['skip_reason']})" for pin in pins if "skip_reason" in pin]
    found = [(pin, hole) for pin in pins for hole in pin.get("vulns", [])]
    for pin, hole in found:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"{pin['name']} {pin['version']}: {hole['id']}, fixed in {fixed}: {hole['description'][:200]}")
    if skipped:
        print(f"NOT AUDITED: {'; '.join(skipped)}")
    print(f"pins audited: {len(pins) - len(skipped)}, known vulnerabilities: {len(found)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["constraints.txt"]))
