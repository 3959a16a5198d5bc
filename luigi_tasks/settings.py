"""What can be set, read once into plain values, so that only this room and `targets` know Luigi's configuration.

Settings stand in `luigi.cfg`, in the section named like the class here. What differs by machine or is secret comes from
the environment: see `ENVIRONMENT`.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import luigi

from luigi_tasks.budget import Pace
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.tickers import normalise

# Luigi reads these two from [core], where its own check does not know them.
warnings.filterwarnings(
    "ignore", message=".*'rpc_retry_(attempts|wait)'", category=luigi.parameter.UnconsumedParameterWarning
)


ENVIRONMENT = {
    "DATABASE_URL": "your own PostgreSQL, postgresql://user:password@host:5432/database; without it the embedded one",
    "DATABASE_URL_FILE": "in its place, a file that holds that URL and that only you can read",
    "ALERT_WEBHOOK_URL": "where alerts are sent, http:// or https://; without it none are",
    "LUIGI_CONFIG_PATH": "a file of settings that is laid over luigi.cfg; Luigi's own way",
}
"""What is read from the environment, and what for."""

SECRETS = ("DATABASE_URL", "DATABASE_URL_FILE", "PGPASSWORD", "ALERT_WEBHOOK_URL")
"""What is there that nobody may see: no argument, log, error or message, and no program that can do without."""


Section = TypeVar("Section", bound=luigi.Config)


class Store(luigi.Config):
    """Where this project keeps everything it writes outside PostgreSQL."""

    root: str = luigi.Parameter(default="var", description="folder of all state, relative to where luigi is started")


class Universe(luigi.Config):
    """Which tickers there are."""

    file: str = luigi.Parameter(default="config/universe.yaml", description="groupings and where their tickers stand")


class Market(luigi.Config):
    """Where bars and company data come from."""

    source: str = luigi.ChoiceParameter(
        choices=["yahoo", "files"], default="yahoo", description="yahoo, or files: a folder or table of your own"
    )
    name: str = luigi.Parameter(
        default="yahoo", description="what the source is called; a database and a store belong to one such name"
    )
    request_timeout: float = luigi.FloatParameter(default=30.0, description="seconds before a request is given up")
    path: str = luigi.Parameter(default="", description="files: a folder of one file a ticker, or one long table")
    metadata_path: str = luigi.Parameter(default="", description="files: company data, CSV or XML, one row a ticker")
    volume_unit: float = luigi.FloatParameter(default=1.0, description="files: shares that a volume of 1 stands for")


class Yahoo(luigi.Config):
    """How Yahoo is asked, by all processes together; it publishes no limits, these are what users report to hold."""

    requests_per_minute: float = luigi.FloatParameter(
        default=60.0, description="requests of all kinds that have a limit together, bars and quotes first; 0: no limit"
    )
    prices_per_minute: float = luigi.FloatParameter(
        default=60.0, description="requests for bars a minute, and as many for quotes; 0: no limit"
    )
    company_per_minute: float = luigi.FloatParameter(
        default=20.0, description="requests for one ticker's company data a minute; 0: no limit"
    )
    burst: int = luigi.IntParameter(default=5, description="requests sent at once after a quiet time")
    quotes: bool = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="whether market value and shares come daily by quote, of fifty tickers at once",
    )
    probe: bool = luigi.BoolParameter(
        default=True,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="whether quotes tell which ticker needs no bars, or all of its bars anew",
    )
    plain: bool = luigi.BoolParameter(
        default=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="whether yfinance asks in its own ways, with more requests: see docs/how-to/yahoo-broke.md",
    )
    first_pause: float = luigi.FloatParameter(default=15.0, description="seconds of silence after the first 429")
    longest_pause: float = luigi.FloatParameter(default=600.0, description="seconds that no pause exceeds")
    patience: float = luigi.FloatParameter(
        default=3600.0, description="seconds of nothing but 429 after which a run gives up"
    )
    outage_patience: float = luigi.FloatParameter(
        default=300.0, description="seconds without a usable answer after which a run gives up"
    )


class Company(luigi.Config):
    """Company data, which changes slowly."""

    refresh_days: int = luigi.IntParameter(
        default=30, description="days between two requests for a ticker's company data, where quotes tell its numbers"
    )
    refresh_days_without_quotes: int = luigi.IntParameter(default=7, description="the same where they do not")


class History(luigi.Config):
    """How stored bars are kept up to date."""

    overlap_sessions: int = luigi.IntParameter(default=10, description="stored sessions that are asked for again")
    whole_days: int = luigi.IntParameter(
        default=7, description="days between two downloads of a ticker's whole history, in place of the last sessions"
    )


class Retirement(luigi.Config):
    """When a ticker that Yahoo has no more is not asked for daily any more."""

    after_days: int = luigi.IntParameter(default=3, description="days on which Yahoo itself has said so")
    witnesses: str = luigi.Parameter(
        default="AAPL,MSFT,SPY", description="well-known tickers, which must answer on such a day for it to count"
    )


class Quality(luigi.Config):
    """What makes a bar fit to be stored."""

    suite: str = luigi.Parameter(default="config/ohlcv_suite.json", description="Great Expectations suite")
    most_bad_share: float = luigi.FloatParameter(
        default=0.95,
        description="share of a whole history's bars that may be quarantined, before what is left means nothing",
    )
    docs_seconds: float = luigi.FloatParameter(
        default=30.0,
        description="seconds that a run spends at its end on Great Expectations' Data Docs; 0: it makes none",
    )


class Database(luigi.Config):
    """The embedded PostgreSQL, used when DATABASE_URL is not set."""

    name: str = luigi.Parameter(default="securities", description="database within the embedded server")


class Luigid(luigi.Config):
    """Who may reach the luigid that `up` starts."""

    allow_public: bool = luigi.BoolParameter(
        default=False, description="let it listen where other machines reach it: whoever does can run code as you"
    )


class Retry(luigi.Config):
    """How a task waits between its own attempts at what is transient; how many, each task family says itself."""

    first_wait: float = luigi.FloatParameter(default=1.0, description="seconds before the second attempt")
    longest_wait: float = luigi.FloatParameter(default=60.0, description="seconds that no wait exceeds")


class Groups(luigi.Config):
    """How many tickers RunAll has luigid know at a time."""

    size: int = luigi.IntParameter(default=50, description="tickers that luigid is told of at once")


class Progress(luigi.Config):
    """How a run tells how far it is, where it does not run on a terminal."""

    log_seconds: float = luigi.FloatParameter(default=120.0, description="seconds between two lines in the log")


class Alerts(luigi.Config):
    """Who is told how a run ended; where, says ALERT_WEBHOOK_URL."""

    webhook_on: str = luigi.Parameter(
        default="failure", description="never, failure, or always: which runs send a message to the webhook"
    )


class Metrics(luigi.Config):
    """Figures for Prometheus."""

    textfile: str = luigi.Parameter(
        default="", description="a .prom file in the node exporter's folder, written when a run ends; empty: none"
    )


@dataclass(frozen=True)
class Secret:
    """Text that never shows itself in a log, an error or a repr."""

    text: str = field(repr=False)

    def __str__(self) -> str:
        return "********"


@dataclass(frozen=True)
class Alerting:
    """Where alerts go, None for nowhere, and whether failures are told, and successes."""

    webhook: Secret | None
    failures: bool
    successes: bool


@dataclass(frozen=True)
class Settings:
    """All settings as values; paths are absolute."""

    root: Path
    universe_file: Path
    source: str
    source_name: str
    request_timeout: float
    files_path: str
    files_metadata_path: str
    files_volume_unit: float
    suite_file: Path
    most_bad_share: float
    docs_seconds: float
    pace: Pace
    refresh_days: int
    refresh_days_without_quotes: int
    quotes: bool
    probe: bool
    plain: bool
    overlap_sessions: int
    whole_days: int
    retire_after_days: int
    witnesses: tuple[str, ...]
    database_url: Secret | None
    embedded_database: str
    luigid_public: bool
    first_wait: float
    longest_wait: float
    group_size: int
    progress_seconds: float
    metrics_file: Path | None

    @property
    def store(self) -> Path:
        """Folder of the parquet and JSON targets of this source: two sources never share a file."""
        return self.root / "store" / self.source_name

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def tickers_per_minute(self) -> dict[str, float]:
        """{ohlcv, metadata: tickers that the source is asked for at most}: a request each. 0: no limit."""
        rates = self.pace.per_minute if self.source == "yahoo" else {}
        return {"ohlcv": rates.get("prices", 0.0), "metadata": rates.get("company", 0.0)}

    @property
    def embedded_postgres(self) -> Path:
        return self.root / "postgres"


@lru_cache(maxsize=1)
def load() -> Settings:
    """The settings, read once in a process: reading them takes milliseconds, and every task asks several times.

    Raises:
        ConfigurationError: a value is out of its range, or the file with the database's URL is open to others.
    """
    store, universe, market, quality = _read(Store), _read(Universe), _read(Market), _read(Quality)
    retry, groups, company, history, retirement = (
        _read(Retry),
        _read(Groups),
        _read(Company),
        _read(History),
        _read(Retirement),
    )
    progress, metrics, yahoo = _read(Progress), _read(Metrics), _read(Yahoo)
    if not 0 <= quality.most_bad_share <= 1:
        raise ConfigurationError("[Quality] most_bad_share", f"{quality.most_bad_share} is not a share from 0 to 1")
    if not quality.docs_seconds >= 0:
        raise ConfigurationError("[Quality] docs_seconds", f"{quality.docs_seconds} is no number from 0 up")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", market.name):
        raise ConfigurationError("[Market] name", f"{market.name!r} cannot name a folder", "Use letters, digits, . _ -")
    if not 0 < progress.log_seconds < float("inf"):
        raise ConfigurationError("[Progress] log_seconds", f"{progress.log_seconds} is not a positive number")
    if groups.size < 1:
        raise ConfigurationError("[Groups] size", f"{groups.size} is not a positive number")
    for section, name, number in (
        ("Company", "refresh_days", company.refresh_days),
        ("Company", "refresh_days_without_quotes", company.refresh_days_without_quotes),
        ("History", "overlap_sessions", history.overlap_sessions),
        ("History", "whole_days", history.whole_days),
        ("Retirement", "after_days", retirement.after_days),
    ):
        if number < 1:
            raise ConfigurationError(f"[{section}] {name}", f"{number} is not a positive number")
    return Settings(
        root=Path(store.root).absolute(),
        universe_file=Path(universe.file).absolute(),
        source=market.source,
        source_name=market.name,
        request_timeout=market.request_timeout,
        files_path=market.path,
        files_metadata_path=market.metadata_path,
        files_volume_unit=market.volume_unit,
        suite_file=Path(quality.suite).absolute(),
        most_bad_share=quality.most_bad_share,
        docs_seconds=quality.docs_seconds,
        pace=_pace(yahoo, market.request_timeout),
        refresh_days=company.refresh_days,
        refresh_days_without_quotes=company.refresh_days_without_quotes,
        quotes=yahoo.quotes,
        probe=yahoo.quotes and yahoo.probe,
        plain=yahoo.plain,
        overlap_sessions=history.overlap_sessions,
        whole_days=history.whole_days,
        retire_after_days=retirement.after_days,
        witnesses=tuple(map(normalise, filter(str.strip, retirement.witnesses.split(",")))),
        database_url=_database_url(),
        embedded_database=_read(Database).name,
        luigid_public=_read(Luigid).allow_public,
        first_wait=retry.first_wait,
        longest_wait=retry.longest_wait,
        group_size=groups.size,
        progress_seconds=progress.log_seconds,
        metrics_file=Path(metrics.textfile).absolute() if metrics.textfile else None,
    )


def alerting() -> Alerting:
    """Apart from all else, since that other settings cannot be used must be told, too.

    Raises:
        ConfigurationError: `webhook_on` is none of its words, or the webhook is no URL; the message does not show it.
    """
    wanted, webhook = _read(Alerts).webhook_on, _secret("ALERT_WEBHOOK_URL")
    if wanted not in ("never", "failure", "always"):
        raise ConfigurationError("[Alerts] webhook_on", f"{wanted!r} is not never, failure or always")
    if webhook is not None and not re.match(r"https?://[^/\s]", webhook.text):
        raise ConfigurationError("ALERT_WEBHOOK_URL", "does not begin with http:// or https:// and a host")
    return Alerting(webhook, failures=wanted != "never", successes=wanted == "always")


def _read(section: type[Section]) -> Section:
    try:
        return section()
    except (ValueError, luigi.parameter.ParameterException) as error:
        raise ConfigurationError(
            f"[{section.__name__}] in luigi.cfg",
            f"has a value that is not of its kind ({error})",
            "docs/reference/settings.md says of what kind each is.",
        ) from error


def _secret(name: str) -> Secret | None:
    text = os.environ.get(name, "").strip()
    return Secret(text) if text else None


def _database_url() -> Secret | None:
    url, file = (os.environ.get(name, "").strip() for name in ("DATABASE_URL", "DATABASE_URL_FILE"))
    if url and file:
        raise ConfigurationError("DATABASE_URL and DATABASE_URL_FILE", "are both set", "Unset one of them.")
    if file:
        url = _read_secret(Path(file))
    return Secret(url) if url else None


def _read_secret(path: Path) -> str:
    """What stands in a file that nobody but this user can read. Raises ConfigurationError."""
    subject = f"DATABASE_URL_FILE {path}"
    try:
        # Who may read it is asked of the file that is open: the path could lead to another one by then.
        with path.open(encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid():
                raise ConfigurationError(subject, "belongs to another user", f"Make it yours: chown {os.geteuid()}.")
            if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                mode = stat.S_IMODE(found.st_mode)
                raise ConfigurationError(subject, f"is open to others (mode {mode:o})", "Close it: chmod 600.")
            text = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigurationError(subject, f"cannot be read ({reason})", "It holds the URL, on one line.") from None
    if not text:
        raise ConfigurationError(subject, "is empty", "It holds the URL, on one line.")
    return text


def _pace(yahoo: Yahoo, request_timeout: float) -> Pace:
    numbers = {
        name: getattr(yahoo, name) for name, kind in yahoo.get_params() if not isinstance(kind, luigi.BoolParameter)
    }
    for name, number in numbers.items():
        if not 0 <= number < float("inf") or (number == 0 and not name.endswith("_per_minute")):
            raise ConfigurationError(f"[Yahoo] {name}", f"{number} is not a positive number")
    return Pace(
        # A cookie and a crumb are wanted once a run; this only bounds what a refused session can cost.
        per_minute={
            "prices": yahoo.prices_per_minute,
            "quotes": yahoo.prices_per_minute,
            "company": yahoo.company_per_minute,
            # In its own ways yfinance wants them anew in every process.
            "access": yahoo.prices_per_minute if yahoo.plain else 12.0,
        },
        all_per_minute=yahoo.requests_per_minute,
        burst=yahoo.burst,
        first_pause=yahoo.first_pause,
        longest_pause=max(yahoo.longest_pause, yahoo.first_pause),
        patience=yahoo.patience,
        outage_patience=yahoo.outage_patience,
        lease=2 * request_timeout + 10,
    )
