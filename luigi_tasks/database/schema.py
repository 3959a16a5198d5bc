"""The tables, as SQLAlchemy knows them. Migrations make them; a test holds the two against each other.

Prices are double precision, not numeric: it is what the sources send, so that a stored value equals the served one
bit for bit, in half the space.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

NOW = sa.text("now()")


def _security_id(*, primary_key: bool = True) -> sa.Column[int]:
    return sa.Column(
        "security_id",
        sa.BigInteger,
        sa.ForeignKey("securities.security_id", ondelete="CASCADE"),
        primary_key=primary_key,
        autoincrement=False,
    )


def _timestamp(name: str, *, nullable: bool = False, default: bool = True) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=NOW if default else None)


def _kept(name: str, empty: str, comment: str) -> sa.Column[object]:
    """JSON that is `empty` where nothing is kept."""
    return sa.Column(name, JSONB, nullable=False, server_default=sa.text(f"'{empty}'"), comment=comment)


store_source = sa.Table(
    "store_source",
    metadata,
    sa.Column("only_row", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("name", sa.Text, nullable=False),
    _timestamp("since"),
    sa.CheckConstraint("only_row", name="one_row"),
    comment="The one source that the bars here come from",
)

securities = sa.Table(
    "securities",
    metadata,
    sa.Column("security_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("ticker", sa.Text, nullable=False, unique=True),
    _timestamp("created_at"),
    sa.Column("name", sa.Text),
    sa.Column("quote_type", sa.Text),
    sa.Column("exchange", sa.Text, comment="The source's code for it, such as NMS"),
    sa.Column("currency", sa.Text, comment="of the prices"),
    sa.Column("time_zone", sa.Text, comment="of the exchange, IANA name"),
    sa.Column("first_trade_date", sa.Date),
    sa.Column("series_digest", sa.Text, unique=True, comment="of the latest bars: no two securities have the same"),
    sa.Column("bars_as_of", sa.Date, comment="the latest as-of date of which the bars are"),
    sa.Column("history_from", sa.Date, comment="the day from which on bars were asked for"),
    sa.Column("whole_as_of", sa.Date, comment="the latest as-of date on which the whole history was asked for"),
    sa.Column(
        "company_as_of",
        sa.Date,
        comment="the latest as-of date of which company data was asked for; NULL: what is stored of it counts no more",
    ),
    sa.Column(
        "numbers_as_of",
        sa.Date,
        comment="the latest as-of date of which a quote told the daily numbers of company data",
    ),
    sa.Column("successor", sa.Text, comment="the ticker it has now, where it was renamed"),
    sa.Column(
        "open_until",
        sa.DateTime(timezone=True),
        comment="when the session that the last answer left out can be had; NULL: it left out none",
    ),
    sa.Column("unfinished", sa.Date, comment="that session"),
    sa.Column(
        "accepted",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="the next answer replaces what is stored, whatever it is",
    ),
    sa.CheckConstraint("num_nulls(open_until, unfinished) IN (0, 2)", name="unfinished"),
    sa.CheckConstraint("ticker ~ '^[A-Z0-9^][A-Z0-9.=^&_-]{0,31}$'", name="ticker"),
    sa.CheckConstraint("num_nulls(bars_as_of, history_from) IN (0, 2)", name="history"),
)

security_groupings = sa.Table(
    "security_groupings",
    metadata,
    _security_id(),
    sa.Column("grouping", sa.Text, primary_key=True),
    _timestamp("created_at"),
    sa.Column("valid_from", sa.Date, primary_key=True, comment="as-of date of the run that first listed it"),
    sa.Column("valid_to", sa.Date, comment="as-of date of the first run that did not; NULL: it is listed"),
    sa.CheckConstraint("\"grouping\" <> ''", name="grouping"),
    sa.CheckConstraint("valid_to > valid_from", name="valid"),
    sa.Index(
        "security_groupings_open_idx",
        "security_id",
        "grouping",
        unique=True,
        postgresql_where=sa.text("valid_to IS NULL"),
    ),
    sa.Index("security_groupings_grouping_idx", "grouping"),
)

grouping_listings = sa.Table(
    "grouping_listings",
    metadata,
    sa.Column("grouping", sa.Text, primary_key=True),
    sa.Column("as_of", sa.Date, nullable=False),
    comment="The latest as-of date as of which members of a grouping were listed",
)

PRICE_CHECKS = {
    # NaN and Infinity are above every number in PostgreSQL, so the upper bound keeps both out.
    "prices_positive": "least(open, high, low, close) > 0",
    "prices_finite": "greatest(open, high, low, close) < 'Infinity'",
    "high_is_highest": "high >= greatest(open, low, close)",
    "low_is_lowest": "low <= least(open, close)",
    "adj_close": "adj_close > 0 AND adj_close < 'Infinity'",
    "volume": "volume >= 0",
    "dividends": "dividends >= 0 AND dividends < 'Infinity'",
    "stock_splits": "stock_splits >= 0 AND stock_splits < 'Infinity'",
    "capital_gains": "capital_gains >= 0 AND capital_gains < 'Infinity'",
    "known": "provisional OR num_nulls(open, high, low) = 0",
}


def _prices() -> list[sa.Column[float]]:
    """NULL in a provisional bar alone, where the source contradicts itself."""
    return [sa.Column(name, sa.Double, nullable=name != "close") for name in ("open", "high", "low", "close")]


def _settling() -> tuple[sa.Column[bool], sa.Column[object]]:
    return (
        sa.Column(
            "provisional",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="the newest session, which the source may still settle",
        ),
        sa.Column("settled_as_of", sa.Date, comment="as-of date of the run that found it unchanged; NULL: of none"),
    )


def _actions(*, nullable: bool = False) -> list[sa.Column[Any]]:
    """Dividends, splits and capital gains, 0 where none, and the currency of the dividend."""
    zero = None if nullable else sa.text("0")
    told = {
        "dividends": "per share, on the ex-date, in dividend_currency",
        "stock_splits": "New shares per old one; 0: none",
        "capital_gains": "A fund's distribution of gains: currency per share, on the ex-date; 0: none",
    }
    amounts = [
        sa.Column(name, sa.Double, nullable=nullable, server_default=zero, comment=None if nullable else words)
        for name, words in told.items()
    ]
    currency = sa.Column(
        "dividend_currency", sa.Text, comment=None if nullable else "of the dividend; NULL: that of the prices"
    )
    return [*amounts, currency]


ohlcv = sa.Table(
    "ohlcv",
    metadata,
    # No foreign key, which would be asked about for every bar: triggers keep what it would (migration 0007).
    sa.Column("security_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="of a row in securities"),
    sa.Column("date", sa.Date, primary_key=True, comment="The session's calendar day where the security is traded"),
    *_prices(),
    sa.Column("adj_close", sa.Double, comment="NULL: the source does not say"),
    sa.Column("volume", sa.BigInteger),
    *_actions(),
    sa.Column("as_of", sa.Date, nullable=False, comment="as-of date of the run that last changed the bar"),
    *_settling(),
    *(sa.CheckConstraint(rule, name=name) for name, rule in PRICE_CHECKS.items()),
    # "Every ticker on one day" is the other question that people ask.
    sa.Index("ohlcv_date_idx", "date"),
    comment="Daily bars; prices as the source states them (Yahoo: adjusted for splits only)",
)
ohlcv.add_is_dependent_on(securities)

ohlcv_revisions = sa.Table(
    "ohlcv_revisions",
    metadata,
    _security_id(),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("as_of", sa.Date, nullable=False, comment="as-of date of the run that brought this version"),
    sa.Column("until", sa.Date, nullable=False, comment="as-of date of the run that replaced it"),
    sa.Column("why", sa.Text, nullable=False),
    *_prices(),
    sa.Column("adj_close", sa.Double),
    sa.Column("volume", sa.BigInteger),
    *_actions(),
    *_settling(),
    _timestamp("revised_at"),
    sa.Column("revision_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.CheckConstraint("until >= as_of", name="until"),
    sa.CheckConstraint("why IN ('split', 'dividend', 'restatement', 'settled', 'accepted', 'withdrawn')", name="why"),
    comment="Bars as they were before they were changed",
)

quarantined_bars = sa.Table(
    "quarantined_bars",
    metadata,
    _security_id(),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column(
        "number",
        sa.Integer,
        primary_key=True,
        autoincrement=False,
        comment="from 0, where the source sends several for one session",
    ),
    *(sa.Column(name, sa.Double) for name in ("open", "high", "low", "close", "adj_close", "volume")),
    *_actions(nullable=True),
    sa.Column(
        "provisional",
        sa.Boolean,
        nullable=False,
        server_default=sa.false(),
        comment="the newest session, which waits for the source to settle it",
    ),
    sa.Column("broken", JSONB, nullable=False, comment="[{rule, value, threshold}]"),
    sa.Column("as_of", sa.Date, nullable=False),
    _timestamp("quarantined_at"),
    comment="Bars that broke a rule when last downloaded; gone once they are mended",
)

actions_without_bar = sa.Table(
    "actions_without_bar",
    metadata,
    _security_id(),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("as_of", sa.Date, primary_key=True, comment="as-of date of the run that brought it"),
    sa.Column("until", sa.Date, comment="as-of date of the run after which it was no longer so; NULL: it is"),
    *_actions(),
    sa.CheckConstraint("until > as_of", name="until"),
    sa.CheckConstraint("greatest(dividends, stock_splits, capital_gains) < 'Infinity'", name="finite"),
    sa.CheckConstraint("least(dividends, stock_splits, capital_gains) >= 0", name="not_negative"),
    comment="Corporate actions of days that no bar is stored of",
)

repairs = sa.Table(
    "repairs",
    metadata,
    _security_id(),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("column", sa.Text, primary_key=True, comment="of the bar"),
    sa.Column("as_of", sa.Date, primary_key=True, comment="as-of date of the run that found it"),
    sa.Column("until", sa.Date, comment="as-of date of the run that found it mended, or otherwise; NULL: it holds"),
    sa.Column("rule", sa.Text, nullable=False, comment="that the served value breaks"),
    sa.Column("old", sa.Double, comment="as served; NULL: not known"),
    sa.Column("new", sa.Double, nullable=False, comment="the one value with which the answer is consistent"),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.CheckConstraint("until > as_of", name="until"),
    sa.CheckConstraint("new >= 0 AND new < 'Infinity'", name="new"),
    comment="Values that the source contradicts itself about, mended where there is exactly one solution",
)

missing_sessions = sa.Table(
    "missing_sessions",
    metadata,
    _security_id(),
    sa.Column("date", sa.Date, primary_key=True),
    sa.Column("noticed", sa.Date, nullable=False, comment="as-of date of the run that did not get it"),
    sa.Column(
        "asked_again",
        sa.Date,
        comment="as-of date of the run that asked again, in vain",
    ),
    sa.Index("missing_sessions_date_idx", "date"),
    comment="Sessions of the exchange that the source has no bar of; gone once it has",
)

security_metadata = sa.Table(
    "security_metadata",
    metadata,
    _security_id(),
    sa.Column("as_of", sa.Date, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("quote_type", sa.Text),
    sa.Column("exchange", sa.Text),
    sa.Column("currency", sa.Text),
    sa.Column("country", sa.Text),
    sa.Column("sector", sa.Text),
    sa.Column("industry", sa.Text),
    sa.Column("market_cap", sa.Numeric, comment="in market_cap_currency"),
    sa.Column("market_cap_currency", sa.Text, comment="the major unit: GBP where prices are in GBp"),
    sa.Column("shares_outstanding", sa.Numeric),
    sa.Column("answer", JSONB, nullable=False, comment="the whole answer, in the source's own field names"),
    _timestamp("created_at"),
    sa.CheckConstraint("market_cap >= 0", name="market_cap"),
    sa.CheckConstraint("shares_outstanding >= 0", name="shares_outstanding"),
    sa.Index("security_metadata_sector_idx", "sector", "industry"),
)

company_numbers = sa.Table(
    "company_numbers",
    metadata,
    _security_id(),
    sa.Column("as_of", sa.Date, primary_key=True),
    sa.Column("market_cap", sa.Numeric, comment="in market_cap_currency"),
    sa.Column("market_cap_currency", sa.Text, comment="the major unit: GBP where prices are in GBp"),
    sa.Column("shares_outstanding", sa.Numeric),
    sa.CheckConstraint("market_cap >= 0", name="market_cap"),
    sa.CheckConstraint("shares_outstanding >= 0", name="shares_outstanding"),
    comment="What moves daily of a company's data, by quote",
)

task_markers = sa.Table(
    "task_markers",
    metadata,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("task_family", sa.Text, nullable=False),
    sa.Column("ticker", sa.Text),
    sa.Column("as_of", sa.Date),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False, comment="bars or records that the step left behind"),
    sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'")),
    sa.Column("seconds", sa.Double, comment="NULL: the process ended between its commit and its report"),
    _timestamp("done_at"),
    sa.Index("task_markers_run_id_idx", "run_id"),
    sa.Index("task_markers_ticker_idx", "ticker"),
)

task_failures = sa.Table(
    "task_failures",
    metadata,
    sa.Column("failure_id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("task_id", sa.Text, nullable=False),
    sa.Column("task_family", sa.Text, nullable=False),
    sa.Column("ticker", sa.Text),
    sa.Column("as_of", sa.Date),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    _timestamp("failed_at"),
    sa.Index("task_failures_run_id_idx", "run_id"),
    sa.Index("task_failures_ticker_idx", "ticker"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("task_family", sa.Text, nullable=False),
    sa.Column("parameters", JSONB, nullable=False, comment="of the task that was asked for"),
    _timestamp("started_at"),
    _timestamp("finished_at", nullable=True, default=False),
    sa.Column("outcome", sa.Text, comment="NULL: running, or killed"),
    sa.Column("requests_before", JSONB, comment="{kind: {sent, throttled}} when it began"),
    sa.Column("summary", JSONB, comment="what it came to: {tickers, failed, bars, rows, requests, seconds}"),
    sa.CheckConstraint("outcome IN ('complete', 'incomplete', 'interrupted')", name="outcome"),
    sa.Index("runs_started_at_idx", "started_at"),
)

request_state = sa.Table(
    "request_state",
    metadata,
    sa.Column("only_row", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("trouble", sa.Text, comment="NULL: requests may be sent"),
    _timestamp("trouble_since", nullable=True, default=False),
    _timestamp("paused_at", nullable=True, default=False),
    _timestamp("paused_until", nullable=True, default=False),
    sa.Column("pause_seconds", sa.Double, nullable=False, server_default=sa.text("0")),
    _timestamp("probing_until", nullable=True, default=False),
    _timestamp("recovered_at", nullable=True, default=False),
    _kept("down_subjects", "[]", "what was asked about in vain since the last answer"),
    sa.Column("share", sa.Double, nullable=False, server_default=sa.text("1"), comment="of the rates in the settings"),
    sa.Column(
        "all_next_at",
        sa.DateTime(timezone=True),
        nullable=False,
        server_default=sa.text("'2000-01-01 00:00Z'"),
        comment="next_at of all kinds together",
    ),
    sa.Column("answered", sa.Integer, nullable=False, server_default=sa.text("0"), comment="since it recovered"),
    sa.Column("enough_seconds", sa.Double, comment="for which it wanted to be left alone the last time"),
    sa.Column("refused_share", sa.Double, comment="the share at which it last refused"),
    _timestamp("refused_at", nullable=True, default=False),
    sa.Column(
        "refused_by", sa.Text, nullable=False, server_default=sa.text("''"), comment="the question that it refused then"
    ),
    _kept("refusals", "{}", "questions that were refused, and since then were not answered"),
    _kept("failed_alone", "{}", "questions that it refuses while it answers others"),
    _kept("unauthorised", "{}", "by kind, questions whose credentials were refused since its last answer"),
    sa.CheckConstraint("only_row", name="one_row"),
    sa.CheckConstraint("share > 0 AND share <= 1", name="share"),
    sa.CheckConstraint("trouble IN ('throttled', 'down')", name="trouble"),
    sa.CheckConstraint("trouble IS NULL OR (trouble_since IS NOT NULL AND paused_until IS NOT NULL)", name="pause"),
    comment="Whether the provider wants to be left alone, for all who share this database",
)

request_rates = sa.Table(
    "request_rates",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("next_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("'2000-01-01 00:00Z'")),
    sa.Column("sent", sa.BigInteger, nullable=False, server_default=sa.text("0"), comment="requests, ever"),
    sa.Column(
        "throttled", sa.BigInteger, nullable=False, server_default=sa.text("0"), comment="answers of status 429, ever"
    ),
    sa.Column(
        "asked_at",
        sa.DateTime(timezone=True),
        comment="when leave was last asked for; later than now: the clock was set",
    ),
)

provider_access = sa.Table(
    "provider_access",
    metadata,
    sa.Column("only_row", sa.Boolean, primary_key=True, server_default=sa.true()),
    sa.Column("crumb", sa.Text, nullable=False),
    sa.Column("cookies", JSONB, nullable=False),
    _timestamp("renewed_at"),
    sa.CheckConstraint("only_row", name="one_row"),
    comment="The anonymous session with the provider that all processes share",
)

absences = sa.Table(
    "absences",
    metadata,
    sa.Column("ticker", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, primary_key=True, comment="in UTC, on which the provider said so"),
    sa.Column("confirmed", sa.Boolean, nullable=False, comment="well-known tickers answered on that day"),
    comment="Days on which the provider said that it has no such ticker; gone as soon as it has",
)
