"""luigid's own metrics, in Prometheus' format: Luigi has a collector for them, which a setting turns on."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import make_bars
from tests.workspace import Workspace


def test_luigid_tells_prometheus_of_tasks_started_done_and_failed(workspace: Workspace) -> None:
    workspace.set("scheduler", metrics_collector="prometheus")
    workspace.use_files({"AAA": make_bars()})
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, GONE]}\n")

    run = workspace.run("--date", "2024-03-15", "--years-back", "1")

    assert run.code == 30, run
    assert "remote scheduler" not in run.err, "luigid must bear with a step that fails within a pipeline"
    with urllib.request.urlopen(f"http://127.0.0.1:{workspace.port}/metrics") as answer:
        text = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    counted = {
        name: {
            sample.labels["family"]: sample.value
            for sample in families[f"luigi_task_{name}"].samples
            if sample.name.endswith("_total")
        }
        for name in ("started", "done", "failed")
    }
    assert counted["started"]["OhlcvPipeline"] == 2
    assert counted["done"]["RecordUniverse"] == 1
    assert counted["failed"] == {"DownloadOhlcv": 1, "OhlcvPipeline": 1}
