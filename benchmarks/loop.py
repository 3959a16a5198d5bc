"""The sequential loop over yfinance, as a baseline: no checks, no resume, what people have today.

python -m benchmarks.loop TICKER,TICKER,… DATABASE_URL
"""

from __future__ import annotations

import sys

import sqlalchemy as sa
import yfinance as yf

from benchmarks.obvious import END, START


def main(tickers: list[str], url: str) -> None:
    engine = sa.create_engine(url)
    for name in tickers:
        ticker = yf.Ticker(name)
        frame = ticker.history(start=START, end=END, auto_adjust=False, actions=True).reset_index()
        frame.columns = [str(column).lower().replace(" ", "_") for column in frame.columns]
        frame = frame.assign(ticker=name, date=frame["date"].dt.date)
        info = {"ticker": name, "answer": str(ticker.info)}
        with engine.begin() as connection:
            frame.to_sql("loop_ohlcv", connection, if_exists="append", index=False)
            connection.execute(sa.text("INSERT INTO loop_metadata VALUES (:ticker, :answer)"), info)


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2])
