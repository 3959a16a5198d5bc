"""Luigi's luigid, which shows the runs' reports, too, so that its page can link to them.

`services.Luigid` starts it, as a file and not as a module of this package: nothing of the package is needed, and its
imports would cost luigid memory for as long as it lives.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import luigi.cmdline
import luigi.server
import tornado.web
from luigi.scheduler import Scheduler
from tornado.escape import xhtml_escape

_PAGE = "report.html"
# luigid's API is of the same address and takes commands from whoever can send a request. A page in a sandbox has no
# address of its own that it could answer to, and by the rest of the policy loads nothing and sends nothing.
_POLICY = (
    "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NOT_YET = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>No report yet – run {run}</title>
<style>:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem; }}
code {{ overflow-wrap: anywhere; }}</style></head>
<body><h1>There is no report yet</h1>
<p>The report of run <code>{run}</code> is written when the run ends. This page opens it then.</p>
<p>If the run was killed, this writes it: <code>luigi --module luigi_tasks GenerateReport --run-id {run}</code></p>
<script>setTimeout(() => location.reload(), 2000);</script></body></html>
"""


class Reports(tornado.web.StaticFileHandler):
    """The folder of reports, to be read: 202 and some words for the page of a run that has not ended."""

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-cache")

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        if "\0" in absolute_path:
            raise tornado.web.HTTPError(404)
        asked, folder = Path(absolute_path), Path(absolute_path).parent
        if asked.name == _PAGE and folder.parent == Path(root) and folder.is_dir() and not asked.exists():
            self.set_status(202)
            self.finish(_NOT_YET.format(run=xhtml_escape(folder.name)))
            return None
        found = super().validate_absolute_path(root, absolute_path)
        if found and any(part.startswith(".") for part in Path(found).relative_to(os.path.realpath(root)).parts):
            raise tornado.web.HTTPError(404)
        return found

    def compute_etag(self) -> str | None:
        """Tornado's is of the contents that it has seen first, and a report may be written again."""
        found = os.stat(str(self.absolute_path))
        return f'"{found.st_ino:x}-{found.st_mtime_ns:x}"'


def main() -> None:
    """luigid's own command with one option more."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--reports", required=True, help="the folder of reports")
    own, luigis = parser.parse_known_args()
    of_luigi = luigi.server.app

    def app(scheduler: Scheduler) -> tornado.web.Application:
        made: tornado.web.Application = of_luigi(scheduler)
        served = {"path": os.path.abspath(own.reports), "default_filename": _PAGE}
        made.add_handlers(".*", [("/reports/(.*)", Reports, served)])
        return made

    luigi.server.app = app
    luigi.cmdline.luigid(luigis)


if __name__ == "__main__":
    main()
