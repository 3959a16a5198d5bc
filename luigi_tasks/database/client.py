"""Securities, their bars and their company data in PostgreSQL; usable without Luigi."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import sqlalchemy as sa
from pgpq import ArrowToPostgresBinaryEncoder
from sqlalchemy.dialects.postgresql import insert

from luigi_tasks import bars, sessions
from luigi_tasks.database import acceptance, company, gaps, history
from luigi_tasks.database import engine as db
from luigi_tasks.database.acceptance import HeldBack
from luigi_tasks.database.answer import Answer, Window, as_table, conformed
from luigi_tasks.database.ledger import Marker, write_marker
from luigi_tasks.database.memberships import enlist, listed_on
from luigi_tasks.database.schema import (
    absences,
    company_numbers,
    ohlcv,
    securities,
    security_groupings,
    security_metadata,
    task_markers,
)
from luigi_tasks.database.text import storable
from luigi_tasks.errors import (
    ConfigurationError,
    HistoryShrank,
    IdenticalSeries,
    InvalidData,
    OutdatedDownload,
    SecurityNotFound,
    WrongAnswer,
)
from luigi_tasks.schedule import LastBar, Span, Stored
from luigi_tasks.tickers import did_you_mean, hyphenated, normalise

__all__ = ["HeldBack", "Result", "Window", "YfinanceClient"]

Result = dict[str, Any]
"""{"success": True, "rows_affected": rows inserted or changed, "message": what happened, in words}."""

_IDENTITY = ("currency", "time_zone")

_DAY = dt.timedelta(days=1)

# Two securities may share a few bars by chance, or a price that does not move; not so many that do.
_DIGEST_BARS = 20
_DIGEST_CLOSES = 10
_FLAT = sa.and_(*(ohlcv.c[name] == ohlcv.c.close for name in ("open", "high", "low"))).label("flat")


class YfinanceClient:
    """Reads and writes one database, whose tables `migrate` makes.

    Every method is one transaction. A ticker may be written as people write it: aapl is AAPL. A `marker` is written in
    the same transaction as the data that it vouches for.
    Methods raise DatabaseUnavailable (worth trying again) or DatabaseRefused; nothing is stored then.
    """

    def __init__(self, database_url: str) -> None:
        """`database_url` is a PostgreSQL URL; nothing is connected yet."""
        self._engine = db.engine_for(database_url)
        self._missing = gaps.MissingSessions(database_url)

    def migrate(self) -> None:
        """Create the tables, or bring them to this version; quick when there is nothing to do."""
        db.migrate(self._engine)

    def insert_security(
        self, ticker: str, groupings: Iterable[str], *, as_of: dt.date | None = None, marker: Marker | None = None
    ) -> Result:
        """Register the ticker, and add it to the groupings as of that date (today in UTC if None).

        Both stay as they are if they are there.
        """
        ticker = normalise(ticker)
        names = sorted(set(groupings))
        for text in (ticker, *names):
            if storable(text) != text:
                raise InvalidData(ticker, f"{text!r} has a character that PostgreSQL cannot hold")
        with self._transaction(ticker) as connection:
            added = enlist(connection, {ticker: names}, as_of or _today())
            self._mark(connection, marker)
        return _result(added, f"{ticker} is registered in {', '.join(names) or 'no grouping'}")

    def insert_ohlcv(
        self, ticker: str, df: pd.DataFrame, *, window: Window | None = None, marker: Marker | None = None
    ) -> Result:
        """Store daily bars, of the shape in `luigi_tasks.bars`; a bar that is there is replaced if it differs.

        What the source says of the security (the frame's `attrs`) is stored with them, and every bar that is changed
        is kept as it was, with the reason, in `ohlcv_revisions`.

        Without a `window`, other bars stay as they are. With one, the frame is the history of its days: bars in
        quarantine go to their table; sessions that are stored and were not sent are told in the message if they are
        few. They stay, unless a split or dividend has moved what all others are measured by; then they are withdrawn
        into the revisions. A window as of a date before the stored one only adds what is not there. The newest session,
        by the source's word (the frame's `attrs`), is provisional until an answer as of a later date agrees.

        Raises:
            SecurityNotFound: the ticker is not registered.
            InvalidData: the frame is not of that shape, has a date twice, or has a bar that no market can make.
            WrongAnswer: currency or zone are not those of the bars that are stored, or nearly all bars are other ones
                and no split explains it: another security's. `accept` lets the next answer pass.
            IdenticalSeries: the latest bars are those of another ticker.
            HistoryShrank: the frame ends before the stored bars do, or lacks more than 5 and 1 % of them, or lacks a
                split or several dividends that are stored. `accept` lets the next answer pass.
            OutdatedDownload: the stored history is another one than that which the frame was to continue.
            RestatedSince: the window's date is before the stored one, and the bars contradict those stored.
        """
        ticker = normalise(ticker)
        attrs, df = df.attrs, conformed(ticker, df)
        # pandas copies them, deep, with every operation.
        df.attrs = {}
        answer = Answer(df, as_table(ticker, df), attrs, window)
        with self._transaction(ticker) as connection:
            security_id = self._security_id(connection, ticker)
            stored = self._require_same_security(connection, ticker, security_id, answer.facts)
            # The first bars go straight into the table: there is nothing that they could be held against.
            first = stored.bars_as_of is None and history.first_session(connection, security_id) is None
            if not first:
                _copy_aside(connection, answer)
            change: dict[str, Any] = {
                name: storable(answer.facts[name]) for name in acceptance.FACTS if answer.facts.get(name)
            }
            as_of = _today() if window is None else window.as_of
            older = window is not None and stored.bars_as_of is not None and window.as_of < stored.bars_as_of
            detail: dict[str, Any] = {}
            if older and window is not None and stored.history_from <= window.span.start:
                self._mark(connection, marker)
                return _result(0, f"{ticker}: nothing to do, the bars are stored as of {stored.bars_as_of}")
            if window is not None:
                acceptance.require_current(connection, ticker, security_id, stored, window, answer)
            if older:
                as_of = stored.bars_as_of
                affected = history.store(connection, security_id, as_of, replace=False)
            else:
                if not first:
                    try:
                        detail |= _revise(connection, ticker, stored, answer, as_of)
                    except WrongAnswer:
                        # Whose bars they are says more than that they are not this security's.
                        self._digest(connection, ticker, security_id, answer.df.tail(_DIGEST_BARS))
                        raise
                affected = _bring_in(connection, security_id, as_of, answer, straight=first)
                if not first:
                    history.settle(connection, security_id, as_of)
                if window is not None:
                    change |= {"bars_as_of": as_of, "accepted": False, **answer.left_out_session}
                    change |= {"whole_as_of": as_of} if window.span.whole else {}
            if window is not None:
                span = window.span
                refused = window.quarantined if window.quarantined is not None else df.iloc[:0]
                history.quarantine(connection, security_id, span.start, span.end, refused, as_of, answer.provisional)
                alone = history.keep_actions(connection, security_id, span.start, span.end, answer.acted, as_of)
                history.keep_repairs(
                    connection, security_id, span.start, span.end, window.repairs, as_of, window.repaired_rules
                )
                change["history_from"] = min(stored.history_from or span.start, span.start)
                names = ("exchange", "first_trade_date", "quote_type")
                listing = {name: change.get(name) or getattr(stored, name) for name in names}
                unfinished = answer.left_out_session["unfinished"]
                detail |= _look_for_gaps(connection, security_id, window.span, as_of, unfinished=unfinished, **listing)
                detail |= answer.told(alone)
            latest = df.tail(_DIGEST_BARS) if first else history.latest(connection, security_id, _DIGEST_BARS)
            change["series_digest"] = self._digest(connection, ticker, security_id, latest)
            connection.execute(sa.update(securities).where(securities.c.security_id == security_id).values(change))
            connection.execute(sa.delete(absences).where(absences.c.ticker == ticker))
            if marker is not None:
                marker = replace(marker, detail={**marker.detail, **detail})
            self._mark(connection, marker)
        return _result(affected, f"{ticker}: {len(df)} bars stored, {affected} of them new or changed" + _told(detail))

    def insert_metadata(
        self,
        ticker: str,
        metadata: Mapping[str, Any] | None,
        *,
        quote: Mapping[str, Any] | None = None,
        as_of: dt.date | None = None,
        marker: Marker | None = None,
    ) -> Result:
        """Store the company data of one as-of date (today in UTC if None), replacing what is there for that date.

        An answer that knows nothing of the company is not stored, and neither is one that is a part of the newest
        stored one: it lacks a third of what that knows, or half of its fields and some of what it knows, or it knows
        less than that of the same date. Then what is stored stays, and the marker is written all the same, since that
        date is done; its detail has `kept_company` ({as_of, lacks: names of columns}) if there is something that stays.

        `quote` has the numbers that move daily, which are kept apart, as by `insert_numbers`. `metadata` may be None:
        it was not asked for.

        Raises:
            SecurityNotFound: the ticker is not registered.
        """
        ticker, day = normalise(ticker), as_of or _today()
        with self._transaction(ticker) as connection:
            security_id, counts = _lock_company(connection, ticker, self._security_id(connection, ticker))
            change: dict[str, Any] = {}
            told = _store_numbers(connection, security_id, day, quote) if quote is not None else False
            if quote is not None:
                change["numbers_as_of"] = sa.func.greatest(securities.c.numbers_as_of, day)
            affected, message = int(told), f"{ticker}: numbers as of {day} stored" * told
            if metadata is not None:
                stored = company.newest(connection, security_id, day)
                affected, message, detail = _store_company(
                    connection, ticker, security_id, day, metadata, stored, counts=counts
                )
                if affected or counts or not stored:
                    change["company_as_of"] = sa.func.greatest(securities.c.company_as_of, day)
                if marker is not None and not affected:
                    marker = replace(marker, rows=int(told), detail={**marker.detail, **detail})
            if change:
                connection.execute(sa.update(securities).where(securities.c.security_id == security_id).values(change))
            self._mark(connection, marker)
        return _result(affected, message or f"{ticker}: no company data was asked for")

    def insert_numbers(self, quotes: Mapping[str, Mapping[str, Any]], *, as_of: dt.date) -> set[str]:
        """Store what moves daily of {ticker: quote}, in one transaction, replacing what is there for that date.

        Returns the tickers whose quotes are none of theirs: their currency or time zone is another one than that of the
        stored bars. Nothing is stored of these, nor of tickers that are not registered.
        """
        names = ("security_id", "ticker", *_IDENTITY)
        query = sa.select(*(securities.c[name] for name in names)).where(securities.c.ticker.in_(quotes))
        strangers = set[str]()
        with self._transaction("quotes") as connection:
            for row in connection.execute(query.order_by(securities.c.security_id)).all():
                quote = quotes[row.ticker]
                told = {"currency": quote.get("currency"), "time_zone": quote.get("exchangeTimezoneName")}
                known = {name: getattr(row, name) for name in _IDENTITY}
                if any(
                    told[name] and known[name] and not _same_fact(name, str(told[name]), known[name]) for name in told
                ):
                    strangers.add(row.ticker)
                else:
                    _store_numbers(connection, row.security_id, as_of, quote)
        return strangers

    def held_back(self, ticker: str) -> HeldBack | None:
        """The last answer that was held back as another security's, or as a part of the history, None if bars as of
        its date or a later one were stored since.

        Raises:
            SecurityNotFound: the ticker is not registered.
        """
        ticker = normalise(ticker)
        with self._transaction(ticker) as connection:
            self._security_id(connection, ticker)
            return acceptance.held_back(connection, ticker)

    def accept(self, ticker: str, *, force: bool = False) -> Result:
        """Have the next answer replace the stored bars, whatever it is; the versions that it replaces are kept.

        For an answer that was held back, or with `force` for any. From then on the steps of its as-of date (of the
        latest one) are to be done again, and company data that is stored protects itself against nothing.

        Raises:
            SecurityNotFound: the ticker is not registered.
            ConfigurationError: no answer was held back since bars of it were stored.
        """
        ticker = normalise(ticker)
        with self._transaction(ticker) as connection:
            security_id = self._security_id(connection, ticker)
            held = acceptance.held_back(connection, ticker)
            if held is None and not force:
                raise ConfigurationError(
                    ticker,
                    "no answer was held back since its bars were stored",
                    "There is nothing to accept; --force has the next answer replace them all the same.",
                )
            of_it = securities.c.security_id == security_id
            noted = sa.update(securities).where(of_it).values(accepted=True, company_as_of=None, numbers_as_of=None)
            latest = connection.scalar(noted.returning(securities.c.bars_as_of))
            since = (held and held.as_of) or latest
            done = sa.delete(task_markers).where(
                task_markers.c.ticker == ticker, task_markers.c.task_family.in_(("InsertOhlcv", "InsertMetadata"))
            )
            if since is not None:
                done = done.where(task_markers.c.as_of >= since)
            connection.execute(done)
        return _result(1, f"{ticker}: the next answer replaces what is stored, whatever it is")

    def get_tickers(self, groupings: Iterable[str] | None = None, *, on: dt.date | None = None) -> list[str]:
        """Tickers that are members of any of the groupings, in alphabetical order.

        With `on`, those that were on that day: listed by the last run whose as-of date is not after it. Without
        `groupings`, the members of any grouping on that day, or, if `on` is None as well, all registered tickers.
        A ticker that was renamed is found under the name that it had on that day.
        """
        query = sa.select(securities.c.ticker).order_by(securities.c.ticker)
        if groupings is not None or on is not None:
            members = sa.select(security_groupings.c.security_id).where(listed_on(on))
            if groupings is not None:
                members = members.where(security_groupings.c.grouping.in_(list(groupings)))
            query = query.where(securities.c.security_id.in_(members))
        with self._transaction("the tickers") as connection:
            return list(connection.scalars(query))

    def security(self, ticker: str) -> dict[str, Any] | None:
        """What is known of a security by the source's word (see `luigi_tasks.bars.FACTS`), and last_session, the day
        of its last stored bar; None if it is not registered."""
        ticker = normalise(ticker)
        last = sa.select(sa.func.max(ohlcv.c.date)).where(ohlcv.c.security_id == securities.c.security_id)
        columns = [securities.c[name] for name in acceptance.FACTS]
        query = sa.select(*columns, last.scalar_subquery().label("last_session")).where(securities.c.ticker == ticker)
        with self._transaction(ticker) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def stored(self, ticker: str, as_of: dt.date, overlap: int = 10) -> Stored | None:
        """How much of its history is stored, None if there is none, for a download as of that date.

        Its overlap are the last `overlap` sessions.
        """
        ticker = normalise(ticker)
        of_it = ohlcv.c.security_id == securities.c.security_id
        names, columns = (
            ("bars_as_of", "history_from", "whole_as_of", "accepted"),
            (*(ohlcv.c[name] for name in ("date", "close", "provisional", "volume")), _FLAT),
        )
        last = sa.select(*columns).where(of_it).order_by(ohlcv.c.date.desc()).limit(overlap).subquery().lateral()
        query = (
            sa.select(*(securities.c[name] for name in names), last)
            .join_from(securities, last, sa.true(), isouter=True)
            .where(securities.c.ticker == ticker, securities.c.bars_as_of.is_not(None))
            .order_by(last.c.date)
        )
        with self._transaction(ticker) as connection:
            rows = connection.execute(query).all()
            if not rows:
                return None
        unfilled = self._missing.to_ask_again([ticker], as_of).get(ticker)
        latest = tuple(
            LastBar(row.date, row.close, row.provisional, _number(row.volume), bool(row.flat))
            for row in rows
            if row.date is not None
        )
        first = rows[0]
        return Stored(
            first.bars_as_of, first.history_from, first.whole_as_of, first.date, unfilled, latest, first.accepted
        )

    def confirm_ohlcv(self, ticker: str, as_of: dt.date, *, marker: Marker | None = None) -> Result:
        """Note that the stored bars are those as of that date, too, since the source has no later ones.

        Raises:
            SecurityNotFound: the ticker is not registered.
            OutdatedDownload: the stored bars are of a later date, or the next answer is to replace them.
        """
        ticker = normalise(ticker)
        with self._transaction(ticker) as connection:
            change = (
                sa.update(securities)
                .where(
                    securities.c.security_id == self._security_id(connection, ticker),
                    securities.c.bars_as_of <= as_of,
                    sa.not_(securities.c.accepted),
                )
                .values(bars_as_of=as_of, open_until=None, unfinished=None)
            )
            if connection.execute(change).rowcount != 1:
                raise OutdatedDownload(ticker, f"its bars cannot be taken for those as of {as_of}", "Run again.")
            self._mark(connection, marker)
        return _result(0, f"{ticker}: no session since the stored bars")

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> pd.DataFrame:
        """The stored bars of these days, both included, in the shape of `luigi_tasks.bars`.

        Raises:
            SecurityNotFound: the ticker is not registered.
        """
        ticker = normalise(ticker)
        with self._transaction(ticker) as connection:
            return history.read(connection, self._security_id(connection, ticker), start, end)

    def delete_security(self, ticker: str) -> int:
        """Delete the security, all that is stored of it and its markers; the number of its bars.

        Raises:
            SecurityNotFound: the ticker is not registered.
        """
        ticker = normalise(ticker)
        with self._transaction(ticker) as connection:
            security_id = self._security_id(connection, ticker)
            bars_of_it = connection.execute(sa.delete(ohlcv).where(ohlcv.c.security_id == security_id)).rowcount
            connection.execute(sa.delete(securities).where(securities.c.security_id == security_id))
            for table in (task_markers, absences):
                connection.execute(sa.delete(table).where(table.c.ticker == ticker))
        return int(bars_of_it)

    def get_security_id(self, ticker: str) -> int:
        """The ticker's id. Raises SecurityNotFound if it is not registered."""
        ticker = normalise(ticker)
        with self._transaction(ticker) as connection:
            return self._security_id(connection, ticker)

    def _transaction(self, subject: str) -> Any:
        return db.transaction(self._engine, subject)

    @staticmethod
    def _security_id(connection: sa.Connection, ticker: str) -> int:
        named = [ticker, hyphenated(ticker)] if storable(ticker) == ticker else []
        query = sa.select(securities.c.ticker, securities.c.security_id).where(securities.c.ticker.in_(named))
        found = {row.ticker: row.security_id for row in connection.execute(query)}
        security_id = found.get(ticker)
        if security_id is None:
            remedy = did_you_mean(ticker, found) or "RegisterSecurity or insert_security does that."
            raise SecurityNotFound(ticker, "is not registered", remedy)
        return int(security_id)

    @staticmethod
    def _require_same_security(
        connection: sa.Connection, ticker: str, security_id: int, facts: Mapping[str, Any]
    ) -> Any:
        """The security's row, for this transaction alone. Raises WrongAnswer for bars that are not this security's."""
        # Locked, so that of two answers at once the second is compared with the first.
        known = connection.execute(
            sa.select(securities).where(securities.c.security_id == security_id).with_for_update()
        ).one_or_none()
        if known is None:
            raise SecurityNotFound(ticker, "was deleted in this moment")
        for name in () if known.accepted else _IDENTITY:
            said, stored = storable(facts.get(name)), getattr(known, name)
            if said and stored and not _same_fact(name, said, stored):
                raise WrongAnswer(
                    ticker,
                    f"the answer's {name.replace('_', ' ')} is {said}, that of the stored bars is {stored}",
                    history.TO_ACCEPT,
                )
        return known

    @staticmethod
    def _digest(connection: sa.Connection, ticker: str, security_id: int, latest: pd.DataFrame) -> str | None:
        """Of the latest stored bars, None where they cannot tell one security from another. Raises IdenticalSeries."""
        digest = _digest(latest)
        if digest is None:
            return None
        # Who comes second waits for the first to commit, and then sees its bars.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(digest, 0))))
        others = sa.select(securities.c.ticker).where(
            securities.c.series_digest == digest, securities.c.security_id != security_id
        )
        other = connection.scalar(others)
        if other is not None:
            raise IdenticalSeries(
                ticker,
                f"its last {_DIGEST_BARS} bars are those of {other}, to the last digit",
                "If both are one security, keep only one in the universe; if not, run again.",
            )
        return digest

    @staticmethod
    def _mark(connection: sa.Connection, marker: Marker | None) -> None:
        if marker is not None:
            write_marker(connection, marker)


def _revise(connection: sa.Connection, ticker: str, stored: Any, answer: Answer, as_of: dt.date) -> dict[str, Any]:
    """Hold the answer in `incoming` against what is stored, and keep the versions of bars that it will replace; what is
    worth telling of it, as JSON values.

    Raises:
        WrongAnswer, HistoryShrank: it is none that may replace what is stored, unless somebody has accepted it.
    """
    security_id, window, accepted = stored.security_id, answer.window, stored.accepted
    detail: dict[str, Any] = {}
    days = (dt.date.min, dt.date.max) if window is None else (window.span.start, window.span.end)
    acted = answer.acted if window is not None else _with_stored(connection, security_id, answer)
    before = history.stored_actions(connection, security_id, *days)
    try:
        lacking = acceptance.require_sessions(connection, ticker, stored, answer)
        if window is not None and not accepted:
            detail |= acceptance.require_actions(ticker, before, acted)
    except HistoryShrank:
        # That nearly all bars are other ones says more than that some are not there.
        found = history.changes(connection, security_id, acted)
        if found is not None:
            acceptance.require_same_bars(connection, ticker, stored, answer, found)
        raise
    if window is not None and answer.df["adj_close"].isna().any() and acceptance.same_actions(before, acted):
        history.keep_known_adjustment(connection, security_id)
    found = history.changes(connection, security_id, acted)
    if found is not None:
        why = found.why
        if accepted:
            why = pd.Series("accepted", index=why.index)
        elif window is not None:
            acceptance.require_same_bars(connection, ticker, stored, answer, found)
        history.keep_versions(connection, security_id, why, as_of)
        detail["revised"] = {str(reason): int(count) for reason, count in why.value_counts().items()}
        odd = why.index[why == "restatement"]
        if len(odd):
            detail["restated"] = [str(odd.min()), str(odd.max())]
    if window is not None:
        detail |= _settle_missing(connection, stored, answer, lacking)
    return detail


def _with_stored(connection: sa.Connection, security_id: int, answer: Answer) -> pd.DataFrame:
    """The actions of bars that are no window: of other days, those that are stored."""
    days = answer.df["date"]
    if days.empty:
        return answer.acted
    stored = history.stored_actions(connection, security_id, days.min().date(), days.max().date())
    both = pd.concat([answer.acted, stored[~stored["date"].isin(days)]])
    return both.sort_values("date", ignore_index=True)


def _settle_missing(connection: sa.Connection, stored: Any, answer: Answer, lacking: list[dt.date]) -> dict[str, Any]:
    """Withdraw stored bars that are not among the new ones and mean something else by now; what is worth telling."""
    window, security_id = answer.window, stored.security_id
    if window is None:
        return {}
    gone = lacking
    if not stored.accepted:
        moved = history.last_action(connection, security_id, answer.acted) if lacking or window.left_out else None
        gone = sorted(day for day in (*lacking, *window.left_out) if moved is not None and day < moved)
    # A bar that was to be settled, and is sent with the same close but breaks a rule still, is none.
    settled = window.left_out - {answer.provisional} - set(gone)
    closes = history.provisional_closes(connection, security_id, settled)
    odd = [day for day, close in closes.items() if close in answer.refused_closes(day)]
    detail = {}
    if (gone or odd) and history.withdraw(connection, security_id, [*gone, *odd], window.as_of) and gone:
        detail["withdrawn"] = [str(day) for day in gone]
    left = [str(day) for day in lacking if day not in gone]
    return detail | ({"missing": left} if left else {})


def _look_for_gaps(
    connection: sa.Connection,
    security_id: int,
    span: Span,
    as_of: dt.date,
    exchange: str | None,
    first_trade_date: str | dt.date | None,
    quote_type: str | None,
    unfinished: dt.date | None,
) -> dict[str, Any]:
    """Hold the stored bars against the exchange's calendar; what is worth telling of it, as JSON values.

    Not expected yet are a session that was left out as unfinished, and what comes after it; and of a fund, whose value
    comes hours after the exchange's close, the last session.
    """
    calendar = sessions.calendar_of(exchange)
    if calendar is None:
        return {}
    earliest, latest = sessions.known(calendar)
    ended = sessions.last_over(calendar, dt.datetime.now(dt.UTC)) or latest
    first = first_trade_date or history.first_session(connection, security_id) or span.start
    start = max(span.start, earliest, dt.date.fromisoformat(first) if isinstance(first, str) else first)
    end = min(span.end, ended)
    if sessions.valued_late(quote_type):
        end = max(sessions.sessions(calendar, start, end), default=start) - _DAY
    if unfinished is not None:
        end = min(end, unfinished - _DAY)
    if start > end:
        return {}
    found = gaps.note(connection, security_id, sessions.sessions(calendar, start, end), start, end, as_of)
    if found.off_calendar and sessions.has_special_sessions(exchange):
        special = gaps.special(connection, security_id, found.off_calendar)
        found = replace(found, off_calendar=[day for day in found.off_calendar if day not in special])
    return {name: [str(day) for day in days] for name, days in asdict(found).items() if days} | {"calendar": calendar}


def _told(detail: Mapping[str, Any]) -> str:
    """The detail of a marker in words, for the message of a result."""
    words = ""
    if detail.get("revised"):
        words += "; revised: " + ", ".join(f"{count} ({why})" for why, count in detail["revised"].items())
    for name, what in (("missing", "are not in the answer any more"), ("withdrawn", "were withdrawn")):
        if detail.get(name):
            words += f"; {len(detail[name])} stored ones {what}: {', '.join(detail[name])}"
    return words


def _same_fact(name: str, said: str, stored: str) -> bool:
    return said == stored or (name == "time_zone" and sessions.same_zone(said, stored))


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def _digest(latest: pd.DataFrame) -> str | None:
    """Of the latest bars; None where they are too few or too flat to tell one security from another."""
    if len(latest) < _DIGEST_BARS or latest["close"].nunique() < _DIGEST_CLOSES:
        return None
    # Column by column, and by hand: pandas takes a hundred times as long to write twenty rows.
    days = latest["date"].to_numpy().astype("datetime64[D]").astype(str)
    prices = zip(*(latest[name].tolist() for name in bars.PRICES), strict=True)
    lines = (
        f"{day},{','.join(f'{price:.17g}' for price in of_day)},{volume}\n"
        for day, of_day, volume in zip(days, prices, latest["volume"].tolist(), strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _store_company(
    connection: sa.Connection,
    ticker: str,
    security_id: int,
    day: dt.date,
    metadata: Mapping[str, Any],
    stored: Mapping[str, Any],
    *,
    counts: bool,
) -> tuple[int, str, dict[str, Any]]:
    """Rows, message and detail of the answer, which is held against what is `stored` if that `counts`."""
    answer = storable(dict(metadata))
    typed = company.typed(answer)
    lacks = company.lacking(typed, answer, stored, day) if counts else None
    if not company.known(typed):
        lacks = sorted(company.known(stored), key=company.COLUMNS.index)
    if lacks is None:
        row = {"security_id": security_id, "as_of": day, "answer": answer, **typed}
        message = f"{ticker}: company data as of {day} stored, {len(answer)} fields"
        return _upsert(connection, security_metadata, row), message, {}
    if not lacks:
        return 0, f"{ticker}: no company data", {}
    detail = {"kept_company": {"as_of": str(stored["as_of"]), "lacks": lacks}}
    return 0, f"{ticker}: that of {stored['as_of']} stays, the answer lacks {', '.join(lacks)}", detail


def _number(stored: float | None) -> float:
    return float("nan") if stored is None else float(stored)


def _store_numbers(connection: sa.Connection, security_id: int, day: dt.date, quote: Mapping[str, Any]) -> bool:
    """Whether the quote has any."""
    told = company.numbers(storable(dict(quote)))
    if told:
        _upsert(connection, company_numbers, {"security_id": security_id, "as_of": day, **told})
    return bool(told)


def _upsert(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> int:
    """The row in the place of that of the same security and date."""
    keys = ["security_id", "as_of"]
    statement = insert(table).values(row)
    changes = {name: statement.excluded[name] for name in row if name not in keys}
    return int(connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changes)).rowcount)


def _result(affected: int, message: str) -> Result:
    return {"success": True, "rows_affected": affected, "message": message}


def _copy_aside(connection: sa.Connection, answer: Answer) -> None:
    """Bars into `incoming`, a temporary table, because COPY knows no ON CONFLICT."""
    names = ", ".join((*bars.COLUMNS, "provisional"))
    empty = f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {names} FROM ohlcv WITH NO DATA"
    connection.execute(sa.text(empty))
    _copy_in(connection, "incoming", answer.table_with())


def _bring_in(connection: sa.Connection, security_id: int, as_of: dt.date, answer: Answer, *, straight: bool) -> int:
    """Bars into the table, `straight` or from `incoming`; how many are new or changed."""
    if not straight:
        return history.store(connection, security_id, as_of, replace=True)
    table = answer.table_with(security_id=pa.scalar(security_id), as_of=pa.scalar(as_of))
    _copy_in(connection, "ohlcv", table)
    return len(table)


def _copy_in(connection: sa.Connection, into: str, table: pa.Table) -> None:
    """In PostgreSQL's own binary form, which neither side has to print or to parse."""
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    content = b"".join([encoder.write_header(), *map(encoder.write_batch, table.to_batches()), encoder.finish()])
    statement = f"COPY {into} ({', '.join(table.column_names)}) FROM STDIN (FORMAT binary)"
    db.copy(connection, statement, io.BytesIO(content))


def _lock_company(connection: sa.Connection, ticker: str, security_id: int) -> tuple[int, bool]:
    """The security for this transaction alone, and whether its stored company data counts against another answer."""
    # Locked, so that of two answers at once the second is compared with the first.
    query = sa.select(securities.c.company_as_of).where(securities.c.security_id == security_id)
    row = connection.execute(query.with_for_update(key_share=True)).one_or_none()
    if row is None:
        raise SecurityNotFound(ticker, "was deleted in this moment")
    return security_id, row.company_as_of is not None
