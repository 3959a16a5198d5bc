"""GenerateReport: what came of a run. Every invocation ends with it; by name it writes an earlier run's again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import luigi
from luigi.task_register import load_task

from luigi_tasks import settings
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.report import collect, render
from luigi_tasks.targets.files import FileTarget, JsonTarget
from luigi_tasks.tasks.base import TickerTask, database_url
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.run_all import RunAll
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv

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
        _point_latest_at(page_target.path.parent)
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
        root = load_task("luigi_tasks", run["task_family"], run["parameters"])
        rejected: list[dict[str, Any]] = []
        if isinstance(root, RunAll):
            steps = STEPS
            validated = root.requires().output()
            known = validated.read() if validated.exists() else {"accepted": {}, "rejected": []}
            members, rejected = known["accepted"], known["rejected"]
        else:
            steps = tuple(family for family in STEPS if family.get_task_family() in ledger.families_of(run["run_id"]))
            members = dict.fromkeys(ledger.tickers_of(run["run_id"]), ())
        expected = [
            _expected(root, family, ticker, groupings) for ticker, groupings in members.items() for family in steps
        ]
        names = [family.get_task_family() for family in steps]
        document = collect.collect(url, run, names, expected, root.date)
        document |= {
            "rejected": rejected,
            "outcome": self._outcome(ledger, run, document),
            "interrupted_by": self.interrupted_by,
            "written_at": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}",
        }
        return document

    def _outcome(self, ledger: Ledger, run: dict[str, Any], document: dict[str, Any]) -> str:
        """The run's outcome: as the ledger has it, or, as it ends, what it has come to."""
        if run["outcome"] is not None:
            return str(run["outcome"])
        if not self.ends_now:
            return "running, or killed"
        tickers = document["tickers"]
        complete = 0 < tickers["all"] == tickers.get("done", 0) and not document["failures"]
        outcome = "interrupted" if self.interrupted_by else "complete" if complete else "incomplete"
        ledger.finish_run(run["run_id"], outcome)
        return outcome


def _expected(root: luigi.Task, family: type[TickerTask], ticker: str, groupings: Any) -> collect.Expected:
    task = root.clone(TickerPipeline, ticker=ticker, groupings=groupings).clone(family)
    return collect.Expected(task.task_family, ticker, task.task_id, lambda: _is_there(task))


def _is_there(task: TickerTask) -> bool:
    """Whether a step without a marker is done: its file may be there although its process was killed right after."""
    targets = luigi.task.flatten(task.output())
    return all(isinstance(target, FileTarget) and target.exists() for target in targets)


def _point_latest_at(folder: Path) -> None:
    link = folder.parent / "latest"
    new = link.with_name(f".latest-{folder.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name)
    new.replace(link)
