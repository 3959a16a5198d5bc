"""The audit fails for what is known to be vulnerable, and says so when there was nobody to ask."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.workspace import REPOSITORY, free_port

HOLE = {
    "id": "PYSEC-0000-1",
    "summary": "Lets everybody in",
    "affected": [
        {
            "package": {"name": "jinja2", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.4.2"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """OSV's query, with one vulnerability in the world; and out of order for the package named so."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, version = asked["package"]["name"], asked["version"]
        answer = {"vulns": [HOLE]} if (name, version) == ("jinja2", "2.4.1") else {}
        self.send_response(503 if name == "out-of-order" else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def osv() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        server.shutdown()


def audit(pins: str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "pins.txt"
    file.write_text(pins)
    command = [sys.executable, ".ci/audit.py", str(file)]
    return subprocess.run(command, cwd=REPOSITORY, env={"PIP_AUDIT_OSV_URL": url}, capture_output=True, text=True)


def test_a_known_vulnerability_fails_the_audit_and_is_named(osv: str, tmp_path: Path) -> None:
    done = audit("jinja2==2.4.1\nclick==8.1.0\n", osv, tmp_path)

    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        "jinja2 2.4.1: PYSEC-0000-1, fixed in 2.4.2: Lets everybody in",
        "pins audited: 2, known vulnerabilities: 1",
    ]


def test_pins_without_a_known_vulnerability_pass(osv: str, tmp_path: Path) -> None:
    done = audit("jinja2==3.1.6\n", osv, tmp_path)

    assert (done.returncode, done.stdout) == (0, "pins audited: 1, known vulnerabilities: 0\n"), done.stderr


@pytest.mark.parametrize("pins", ["jinja2==2.4.1\n", "out-of-order==1.0\n"])
def test_a_service_that_cannot_be_asked_is_no_failure_and_no_pass(osv: str, tmp_path: Path, pins: str) -> None:
    url = osv if "order" in pins else f"http://127.0.0.1:{free_port()}/v1/query"

    done = audit(pins, url, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT AUDITED: the vulnerability service cannot be reached (")
    assert "known vulnerabilities" not in done.stdout


def test_a_file_that_cannot_be_audited_is_a_failure(osv: str, tmp_path: Path) -> None:
    done = audit("jinja2>=2\n", osv, tmp_path)

    assert done.returncode == 1
    assert "jinja2" in done.stderr
