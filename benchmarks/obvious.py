"""The obvious Luigi design, as a baseline: six tasks a ticker, all required up front, everything made where needed.

luigi --module benchmarks.obvious All --workers 20 --local-scheduler --tickers … --root … --url …
"""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import luigi
import pandas as pd
import sqlalchemy as sa

if os.environ.get("OBVIOUS_IMPORTS") == "once":
    import great_expectations  # noqa: F401
    import yfinance  # noqa: F401

START, END = dt.date(2014, 3, 15), dt.date(2024, 3, 16)
TABLES = """
CREATE TABLE IF NOT EXISTS obvious_securities (ticker text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS loop_ohlcv (
    ticker text, date date, open double precision, high double precision, low double precision,
    close double precision, adj_close double precision, volume bigint, dividends double precision,
    stock_splits double precision, PRIMARY KEY (ticker, date)
);
CREATE TABLE IF NOT EXISTS loop_metadata (ticker text, answer text);
CREATE TABLE IF NOT EXISTS obvious_metadata (ticker text PRIMARY KEY, answer jsonb);
CREATE TABLE IF NOT EXISTS obvious_ohlcv (
    ticker text, date date, open double precision, high double precision, low double precision,
    close double precision, adj_close double precision, volume bigint, dividends double precision,
    stock_splits double precision, PRIMARY KEY (ticker, date)
);
"""


class TickerStep(luigi.Task):
    ticker = luigi.Parameter()
    root = luigi.Parameter()
    url = luigi.Parameter(significant=False)

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.root) / type(self).__name__ / f"{self.ticker}.{self.suffix}"))

    suffix = "done"

    def engine(self) -> sa.Engine:
        return sa.create_engine(self.url)

    def finished(self) -> None:
        with self.output().open("w") as file:
            file.write("done")


class Register(TickerStep):
    def run(self) -> None:
        with self.engine().begin() as connection:
            statement = "INSERT INTO obvious_securities VALUES (:ticker) ON CONFLICT DO NOTHING"
            connection.execute(sa.text(statement), {"ticker": self.ticker})
        self.finished()


class Download(TickerStep):
    resources = {"yfinance_api": 1}
    suffix = "parquet"

    def run(self) -> None:
        import yfinance as yf

        frame = yf.Ticker(self.ticker).history(start=START, end=END, auto_adjust=False, actions=True)
        if frame.empty:
            raise RuntimeError(f"{self.ticker}: no bars")
        self.output().makedirs()
        frame.to_parquet(self.output().path)


class Validate(TickerStep):
    def requires(self) -> Any:
        return self.clone(Download)

    def run(self) -> None:
        import great_expectations as gx
        import great_expectations.expectations as gxe

        context = gx.get_context(mode="ephemeral")
        asset = context.data_sources.add_pandas("bars").add_dataframe_asset("bars")
        batch = asset.add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(gx.ExpectationSuite(name="ohlcv"))
        for column in ("Open", "High", "Low", "Close", "Adj Close", "Volume"):
            suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=column))
            suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=0))
        for low in ("Open", "Close", "Low"):
            rule = gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="High", column_B=low, or_equal=True)
            suite.add_expectation(rule)
        frame = pd.read_parquet(self.input().path).reset_index()
        result = batch.get_batch({"dataframe": frame}).validate(suite)
        if not result.success:
            raise RuntimeError(f"{self.ticker}: invalid")
        self.finished()


class Insert(TickerStep):
    def requires(self) -> list[luigi.Task]:
        return [self.clone(Register), self.clone(Validate)]

    def run(self) -> None:
        frame = pd.read_parquet(self.clone(Download).output().path).reset_index()
        frame.columns = [str(name).lower().replace(" ", "_") for name in frame.columns]
        frame = frame.assign(ticker=self.ticker, date=frame["date"].dt.date)
        with self.engine().begin() as connection:
            statement = sa.text("DELETE FROM obvious_ohlcv WHERE ticker = :ticker")
            connection.execute(statement, {"ticker": self.ticker})
            frame.to_sql("obvious_ohlcv", connection, if_exists="append", index=False)
        self.finished()


class DownloadCompany(TickerStep):
    resources = {"yfinance_api": 1}
    suffix = "json"

    def run(self) -> None:
        import yfinance as yf

        with self.output().open("w") as file:
            json.dump(yf.Ticker(self.ticker).info, file, default=str)


class InsertCompany(TickerStep):
    def requires(self) -> list[luigi.Task]:
        return [self.clone(Register), self.clone(DownloadCompany)]

    def run(self) -> None:
        with self.clone(DownloadCompany).output().open() as file:
            answer = file.read()
        with self.engine().begin() as connection:
            statement = "INSERT INTO obvious_metadata VALUES (:ticker, CAST(:answer AS jsonb)) ON CONFLICT DO NOTHING"
            connection.execute(sa.text(statement), {"ticker": self.ticker, "answer": answer})
        self.finished()


class All(luigi.WrapperTask):
    tickers = luigi.Parameter()
    root = luigi.Parameter()
    url = luigi.Parameter(significant=False)

    def requires(self) -> list[Any]:
        return [
            family(ticker=ticker, root=self.root, url=self.url)
            for ticker in self.tickers.split(",")
            for family in (Insert, InsertCompany)
        ]
