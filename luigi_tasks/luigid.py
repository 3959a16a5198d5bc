"""Luigi's luigid, which shows the runs and their reports, too, so that its page can link to them, and takes many calls
by one request.

`services.Luigid` starts it, as a file and not as a module of this package: nothing of the package is needed, and its
imports would cost luigid memory for as long as it lives.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
# What a run tells of itself, in its folder: see report/live.py.
_TOLD = "run.json"
_SILENT_SECONDS = 30.0
"""A run that goes on tells every few seconds; after so long it is taken for killed."""
_MOST_RUNS = 500
_PAGE_OF = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }}
code {{ overflow-wrap: anywhere; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #8884; }}
.bad {{ color: #d32f2f; }}</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""
_AGAIN = "<script>setTimeout(() => location.reload(), 2000);</script>"
_AFTER_A_KILL = (
    "<p>If the run was killed, this writes its report: "
    "<code>luigi --module luigi_tasks GenerateReport --run-id {run}</code></p>"
)


class _Sandboxed(tornado.web.RequestHandler):
    """What is shown of runs is shown by one policy."""

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", _POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-cache")


class Calls(tornado.web.RequestHandler):
    """Several calls of the scheduler's own methods by one request: a run shows on luigid what became of many steps.

    Each costs Luigi's API a request of its own, and that more than the call.
    """

    _METHODS = frozenset({"add_task", "add_worker", "ping", "set_task_status_message"})

    def initialize(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def post(self) -> None:
        for method, arguments in json.loads(self.request.body):
            if method not in self._METHODS:
                raise tornado.web.HTTPError(400)
            getattr(self._scheduler, method)(**arguments)


class Runs(_Sandboxed):
    """The list of runs, newest first."""

    def initialize(self, path: str) -> None:
        self._path = Path(path)

    def get(self) -> None:
        self.finish(_list_of(self._path))

    def head(self) -> None:
        self.finish()


class Reports(_Sandboxed, tornado.web.StaticFileHandler):
    """The folder of reports, to be read: 202 and how far it is for the page of a run that has not ended."""

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        if "\0" in absolute_path:
            raise tornado.web.HTTPError(404)
        asked, folder = Path(absolute_path), Path(absolute_path).parent
        shown = folder.parent == Path(root) and not folder.name.startswith(".")
        if shown and asked.name == _PAGE and folder.is_dir() and not asked.exists():
            self.set_status(202)
            self.finish(_not_yet(folder))
            return None
        found = super().validate_absolute_path(root, absolute_path)
        if found and any(part.startswith(".") for part in Path(found).relative_to(os.path.realpath(root)).parts):
            raise tornado.web.HTTPError(404)
        return found

    def compute_etag(self) -> str | None:
        """Tornado's is of the contents that it has seen first, and a report may be written again."""
        found = os.stat(str(self.absolute_path))
        return f'"{found.st_ino:x}-{found.st_mtime_ns:x}"'


def _not_yet(folder: Path) -> str:
    """The page of a run without a report: how far it is, by ticker and step, as far as it has told."""
    run, told, silent = _escaped(folder.name), _told(folder), _silent_for(folder)
    wait = f"<p>The report of run <code>{run}</code> is written when the run ends. This page opens it then.</p>"
    after = _AFTER_A_KILL.format(run=run)
    if silent is None:
        return _PAGE_OF.format(title="There is no report yet", body=f"{wait}\n{after}\n{_AGAIN}")
    title, words = "The run is going on", ""
    if silent > _SILENT_SECONDS:
        title = "The run has been killed, or cannot tell how far it is"
        words = f"<p>It was last heard of at {_escaped(told.get('told_at'))} UTC.</p>\n{after}"
    about = (
        f"<p>{_escaped(told.get('task'))} of {_escaped(told.get('what'))} as of {_escaped(told.get('as_of'))}, "
        f"since {_escaped(told.get('started_at'))} UTC</p><p>{_escaped(told.get('line'))}</p>"
    )
    return _PAGE_OF.format(title=title, body="\n".join([about, words, *_progress(told), wait, _AGAIN]))


def _progress(told: dict[str, Any]) -> Iterator[str]:
    try:
        steps, tickers, every = told["steps"], told["tickers"], told["every"]
        rows = [(name, f"{done:,}", f"{failed:,}", f"{count:,}") for name, done, failed, count in steps]
        yield _table(("step", "done", "failed", "rows"), [map(_escaped, row) for row in rows])
        names = [str(row[0]) for row in steps]
        cells = [[_escaped(ticker), *(_cell(of_ticker.get(name)) for name in names)] for ticker, of_ticker in tickers]
        if every > len(tickers):
            yield f"<p>{len(tickers):,} of the {every:,} tickers so far: those that failed, and the latest.</p>"
        yield _table(("ticker", *names), cells)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Of another version of ours; how far the run is says the line.
        return


def _cell(step: dict[str, Any] | None) -> str:
    if step is None:
        return ""
    if not step["done"]:
        return f'<span class="bad">{_escaped(step["kind"])}</span> {_escaped(step["reason"])}'
    seconds = "" if step["seconds"] is None else f", {step['seconds']:.1f} s"
    return _escaped(f"done, {step['rows']:,}{seconds}")


def _list_of(reports: Path) -> str:
    runs = sorted(_folders(reports), key=_began, reverse=True)
    if not runs:
        return _PAGE_OF.format(title="Runs", body="<p>There are none yet.</p>")
    rows = []
    for folder in runs[:_MOST_RUNS]:
        told, name = _told(folder), _escaped(folder.name)
        link = f'<a href="/reports/{quote(os.fsencode(folder.name), safe="")}/{_PAGE}">{name}</a>'
        where = f"{_escaped(told.get('task', ''))} <span>{_escaped(told.get('what', ''))}</span>"
        rows.append([_escaped(_began(folder)), where, _escaped(told.get("as_of", "")), _outcome(folder, told), link])
    older = len(runs) - _MOST_RUNS
    more = f"<p>{older:,} older ones are in the folder of reports.</p>" if older > 0 else ""
    return _PAGE_OF.format(title="Runs", body=_table(("began, UTC", "what", "as of", "outcome", "report"), rows) + more)


def _outcome(folder: Path, told: dict[str, Any]) -> str:
    if told.get("outcome"):
        bad = ' class="bad"' if told["outcome"] != "complete" else ""
        return f"<span{bad}>{_escaped(told['outcome'])}</span> {_escaped(told.get('line', ''))}"
    if (folder / _PAGE).exists():
        return "ended, see its report"
    silent = _silent_for(folder)
    if silent is None:
        return "no word of it: it has just begun, or was killed"
    if silent > _SILENT_SECONDS:
        return f'<span class="bad">killed</span> last heard of at {_escaped(told.get("told_at"))}'
    return f"going on {_escaped(told.get('line', ''))}"


def _folders(reports: Path) -> list[Path]:
    """Those of runs; links, such as `latest`, are others' names."""
    try:
        with os.scandir(reports) as found:
            return [
                Path(each.path)
                for each in found
                if each.is_dir(follow_symlinks=False) and not each.name.startswith(".")
            ]
    except OSError:
        return []


def _began(folder: Path) -> str:
    """By the run's name, which begins with it; else when the folder was changed."""
    if name := re.match(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-", folder.name):
        return "{}-{}-{} {}:{}:{}".format(*name.groups())
    try:
        return f"{dt.datetime.fromtimestamp(folder.stat().st_mtime, dt.UTC):%Y-%m-%d %H:%M:%S}"
    except OSError:
        return ""


def _told(folder: Path) -> dict[str, Any]:
    """What the run has told; nothing where that cannot be read."""
    try:
        told = json.loads((folder / _TOLD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _silent_for(folder: Path) -> float | None:
    """Seconds since the run has told something; None: it never has."""
    try:
        return time.time() - (folder / _TOLD).stat().st_mtime
    except OSError:
        return None


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are HTML."""
    head = "".join(f"<th>{_escaped(name)}</th>" for name in names)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"


def _escaped(value: object) -> str:
    # Names of files may be no text, and a text may hold what UTF-8 has no bytes for.
    return xhtml_escape(str(value).encode("utf-8", "replace").decode())


def main() -> None:
    """luigid's own command with one option more."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--reports", required=True, help="the folder of reports")
    own, luigis = parser.parse_known_args()
    of_luigi = luigi.server.app

    def app(scheduler: Scheduler) -> tornado.web.Application:
        made: tornado.web.Application = of_luigi(scheduler)
        served = {"path": os.path.abspath(own.reports), "default_filename": _PAGE}
        runs = {"path": served["path"]}
        calls = ("/calls", Calls, {"scheduler": scheduler})
        made.add_handlers(".*", [("/reports/?", Runs, runs), ("/reports/(.*)", Reports, served), calls])
        return made

    luigi.server.app = app
    luigi.cmdline.luigid(luigis)


if __name__ == "__main__":
    main()
