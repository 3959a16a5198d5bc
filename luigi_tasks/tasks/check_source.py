"""CheckSource: whether the source can be used at all, once a run, before any ticker is tried."""

from __future__ import annotations

import luigi

from luigi_tasks import settings
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import AskingTask, source
from luigi_tasks.tasks.parameters import OfFamily


class CheckSource(AskingTask):
    """Asks the source for a sign of life, so that a dead network is said once and not for every ticker."""

    run_id: str = luigi.Parameter(description="the run that asks; another run asks anew")
    priority: int = OfFamily(default=100, description="higher runs first")

    def output(self) -> JsonTarget:
        return JsonTarget(settings.load().reports / self.run_id / "source.json")

    def run(self) -> None:
        source().check()
        self.output().write({"source": settings.load().source_name, "usable": True})
