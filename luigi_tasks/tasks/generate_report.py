"""GenerateReport: what came of a run. Every run ends with it; by name it writes an earlier run's again."""

from __future__ import annotations

import datetime as dt
import logging
from functools import partial
from pathlib import Path
from typing import Any

import luigi
from luigi.task_register import load_task

from luigi_tasks import settings
from luigi_tasks.database.engine import shown
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import ConfigurationError, DownTooLong, SecuritiesMasterError, ThrottledTooLong
from luigi_tasks.report import collect, live, render, trends
from luigi_tasks.run import luigid_client
from luigi_tasks.run.inline_runner import with_requirements
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import FileTarget, JsonTarget
from luigi_tasks.tasks import data_docs
from luigi_tasks.tasks.base import HistoryTask, TickerTask, database_url
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.due import already, pipelines, resting_tickers, task_ids
from luigi_tasks.tasks.get_tickers import UNIVERSE
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.run_all import RunAll
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv

logger = logging.getLogger(__name__)

STEPS: tuple[type[TickerTask], ...] = (
    RegisterSecurity,
    DownloadOhlcv,
    ValidateOhlcv,
    InsertOhlcv,
    DownloadMetadata,
    InsertMetadata,
)


class TextTarget(FileTarget):
    """A text file."""

    def write(self, text: str) -> None:
        self._write(lambda part: part.write_text(text, encoding="utf-8"))


class GenerateReport(luigi.Task):
    """Writes a run's report as a page and as JSON, and prints the summary."""

    run_id: str = luigi.Parameter(default="", description="which run (default: the last one)")
    ends_now: bool = luigi.BoolParameter(
        default=False, significant=False, description="the run is ending with this report; for the run itself"
    )
    interrupted_by: str = luigi.Parameter(
        default="", significant=False, description="the signal that ended the run, if one did"
    )

    def output(self) -> tuple[JsonTarget, TextTarget]:
        folder = settings.load().reports / self._run_id()
        return JsonTarget(folder / "report.json"), TextTarget(folder / "report.html")

    def run(self) -> None:
        document = self._document()
        json_target, page_target = self.output()
        json_target.write(document)
        page_target.write(render.page(document))
        _list(page_target.path.parent, document)
        if self.ends_now:
            _point_latest_at(page_target.path.parent)
            # After the report, which nothing that happens here may cost.
            data_docs.at_end(document, page_target.path.parent)
            document = link_data_docs(page_target.path.parent, document)
        print(render.terminal(document, str(page_target.path)))

    def _run_id(self) -> str:
        run_id = self.run_id or Ledger(database_url()).latest_run_id()
        if run_id is None:
            raise ConfigurationError("the report", "there has been no run yet")
        return run_id

    def _document(self) -> dict[str, Any]:
        url, ledger = database_url(), Ledger(database_url())
        run = ledger.run(self._run_id())
        if run is None:
            raise ConfigurationError(f"--run-id {self.run_id}", "there is no such run")
        parameters = dict(run["parameters"])
        digest = parameters.pop(UNIVERSE, "")
        root = load_task("luigi_tasks", run["task_family"], parameters)
        known: dict[str, Any] = {"accepted": {}, "rejected": []}
        if isinstance(root, RunAll):
            validated = JsonTarget(paths.universe(settings.load().store, "validated", root.date, digest))
            known = validated.read() if validated.exists() else known
            of_all = pipelines(root, known["accepted"])
            there, families = _not_to_do(of_all, run["started_at"]), STEPS
            ids = {family: task_ids(family, of_all) for family in STEPS}
            # The steps themselves are only made where there is no other way to learn of one.
            expected = [
                collect.Expected(
                    family.get_task_family(),
                    each.ticker,
                    ids[family][each.ticker],
                    partial(_receipt, each, family, there),
                )
                for each in of_all
                for family in STEPS
            ]
        else:
            tasks = _steps(root)
            families = tuple(step for step in STEPS if any(isinstance(task, step) for task in tasks))
            # Those of the bars last: they know whether the whole history was wanted.
            of_bars = sorted(tasks, key=lambda task: isinstance(task, HistoryTask))
            there = _not_to_do(
                [task.clone(TickerPipeline) for task in {task.ticker: task for task in of_bars}.values()],
                run["started_at"],
            )
            expected = [
                collect.Expected(
                    task.task_family, task.ticker, task.task_id, partial(_receipt, task, type(task), there)
                )
                for task in tasks
            ]
        names = [family.get_task_family() for family in families]
        asked = isinstance(root, RunAll) and root.asked
        resting = {} if asked else resting_tickers(sorted({each.ticker for each in expected}))
        document = collect.collect(url, run | {"parameters": parameters}, names, expected, root.date, resting)
        document |= {
            "rejected": known["rejected"],
            "gave_up": _gave_up(document),
            "where": _where(url, run["run_id"]),
            "data_docs": data_docs.link(settings.load().reports / run["run_id"]),
            "outcome": self._outcome(ledger, run, document),
            "interrupted_by": self.interrupted_by,
            "written_at": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}",
        }
        before = trends.history(ledger, run["run_id"])
        document["changes"] = trends.changes(url, document, before)
        document["history"] = [_this_run(document), *before]
        document["coverage_in"] = "" if document["coverage"] else self._with_coverage(before)
        return document

    def _with_coverage(self, before: list[dict[str, Any]]) -> str:
        """Where, seen from this report, the last one is of a run that had something to do."""
        for run in before:
            page = settings.load().reports / run["run_id"] / "report.html"
            if run["summary"].get("rows") and page.exists():
                return f"../{run['run_id']}/report.html"
        return ""

    def _outcome(self, ledger: Ledger, run: dict[str, Any], document: dict[str, Any]) -> str:
        """The run's outcome: as the ledger has it, or, as it ends, what it has come to."""
        if run["outcome"] is not None:
            return str(run["outcome"])
        if not self.ends_now:
            return "running, or killed"
        tickers = document["tickers"]
        settled = tickers.get("done", 0) + tickers.get("retired", 0)
        complete = 0 < tickers["all"] == settled and not document["failures"]
        outcome = "complete" if complete else "interrupted" if self.interrupted_by else "incomplete"
        ledger.finish_run(run["run_id"], outcome, trends.summary(document))
        return outcome


def at_end(run_id: str, interrupted_by: str) -> tuple[dict[str, Any], Path]:
    """Write the report of a run that ends now, by this signal or by none; what it says, and where its page is."""
    report = GenerateReport(run_id=run_id, ends_now=True, interrupted_by=interrupted_by)
    report.run()
    written, page = report.output()
    return written.read(), page.path


def _list(folder: Path, document: dict[str, Any]) -> None:
    """Have luigid's list of runs say what came of this one; a report is not to fail for want of that."""
    try:
        JsonTarget(folder / live.NAME).write(live.ended(document))
    except SecuritiesMasterError as error:
        logger.warning("luigid's list of runs does not tell of this one: %s", error)


def _this_run(document: dict[str, Any]) -> dict[str, Any]:
    """The run itself, as an entry of the history."""
    return {
        "run_id": document["run_id"],
        "task": document["task"],
        "as_of": document["as_of"],
        "started_at": document["started_at"][:16],
        "outcome": document["outcome"],
        "summary": trends.summary(document),
    }


def link_data_docs(folder: Path, document: dict[str, Any]) -> dict[str, Any]:
    """The document of the report in this folder with its link to Data Docs as they are now; written where it is new."""
    linked = document | {"data_docs": data_docs.link(folder)}
    if linked != document:
        JsonTarget(folder / "report.json").write(linked)
        TextTarget(folder / "report.html").write(render.page(linked))
    return linked


def _steps(root: luigi.Task) -> list[TickerTask]:
    """The steps of a ticker among a task and all that it requires, each once."""
    return [task for task in with_requirements(root) if isinstance(task, STEPS)]


def _gave_up(document: dict[str, Any]) -> str:
    """Why the run stopped before its last ticker, if it did."""
    for failure in document["failures"]:
        if failure["kind"] in (ThrottledTooLong.kind, DownTooLong.kind):
            return str(failure["reason"])
    return ""


def _not_to_do(of_all: list[TickerPipeline], began: dt.datetime) -> dict[type[TickerTask], set[str]]:
    """{step: tickers of which there was nothing to do when the run began}, for those before the storing ones, too."""
    there = already(of_all, began)
    bars, company = there.get(InsertOhlcv, set()), there.get(InsertMetadata, set())
    return dict.fromkeys((DownloadOhlcv, ValidateOhlcv, InsertOhlcv), bars) | dict.fromkeys(
        (DownloadMetadata, InsertMetadata), company
    )


def _receipt(
    of_ticker: TickerTask, step: type[TickerTask], there: dict[type[TickerTask], set[str]]
) -> tuple[int, dict[str, Any]] | None:
    if of_ticker.ticker in there.get(step, ()):
        return 0, {}
    task = of_ticker.clone(step)
    targets = luigi.task.flatten(task.output())
    whole = all(isinstance(target, FileTarget) and target.exists() for target in targets)
    return task.receipt() if whole else None


def _where(url: str, run_id: str) -> dict[str, str]:
    """Where else to look, for the end of the summary."""
    chosen, env = settings.load(), luigi.interface.core()
    database = f" --database {chosen.embedded_database}" if chosen.database_url is None else ""
    page = luigid_client.page_url(run_id)
    return ({"browser": page} if page else {}) | {
        "tables": f"{shown(url)}: ./run.sh psql{database} -c 'SELECT * FROM ohlcv LIMIT 5'",
        "parquet": str(chosen.store),
        "luigid": f"http://{env.scheduler_host}:{env.scheduler_port}",
        "logs": str(chosen.root / "logs"),
    }


def _point_latest_at(folder: Path) -> None:
    link = folder.parent / "latest"
    new = link.with_name(f".latest-{folder.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    new.replace(link)
