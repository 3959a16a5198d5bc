"""A securities master that fills itself: Luigi tasks from a list of tickers to PostgreSQL.

`luigi --module luigi_tasks RunAll` loads the tasks from here. Nothing heavy is imported until there is work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from luigi_tasks import command_line
from luigi_tasks import event_handlers as event_handlers
from luigi_tasks.run import lifecycle
from luigi_tasks.tasks import generate_report
from luigi_tasks.tasks.check_source import CheckSource
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.generate_report import GenerateReport
from luigi_tasks.tasks.get_tickers import GetTickers
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.metadata_pipeline import MetadataPipeline
from luigi_tasks.tasks.ohlcv_pipeline import OhlcvPipeline
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.run_all import RunAll
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv
from luigi_tasks.tasks.validate_tickers import ValidateTickers

if TYPE_CHECKING:
    from luigi_tasks.database.client import YfinanceClient
    from luigi_tasks.pipeline import YfinancePipeline
    from luigi_tasks.reading import ContradictoryData, actions, metadata, prices, universe

__all__ = [
    "CheckSource",
    "ContradictoryData",
    "DownloadMetadata",
    "DownloadOhlcv",
    "GenerateReport",
    "GetTickers",
    "InsertMetadata",
    "InsertOhlcv",
    "MetadataPipeline",
    "OhlcvPipeline",
    "RegisterSecurity",
    "RunAll",
    "TickerPipeline",
    "ValidateOhlcv",
    "ValidateTickers",
    "YfinanceClient",
    "YfinancePipeline",
    "actions",
    "metadata",
    "prices",
    "universe",
]


lifecycle.report_with(generate_report.at_end)
# All tasks are known here, and Luigi has not looked at its options yet.
command_line.check_program()

_ON_FIRST_USE = {
    "ContradictoryData": "luigi_tasks.reading",
    "YfinanceClient": "luigi_tasks.database.client",
    "YfinancePipeline": "luigi_tasks.pipeline",
    "actions": "luigi_tasks.reading",
    "metadata": "luigi_tasks.reading",
    "prices": "luigi_tasks.reading",
    "universe": "luigi_tasks.reading",
}


def __getattr__(name: str) -> Any:
    """What needs pandas, on first use."""
    if name in _ON_FIRST_USE:
        return getattr(import_module(_ON_FIRST_USE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
