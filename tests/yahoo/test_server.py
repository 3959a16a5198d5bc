"""The server against the client it is for: unmodified yfinance in a process of its own, over real HTTP."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.yahoo.server import FaultKind, LoopbackYahoo

START, END = "2023-01-01", "2025-01-01"

# Does the jobs of argv[1], all at once if argv[2] is "fork", and prints what came of each.
CLIENT = """
import json, multiprocessing, sys, tempfile, warnings

warnings.simplefilter("ignore")
import yfinance as yf

yf.config.debug.hide_exceptions = False

def do(job):
    yf.set_tz_cache_location(tempfile.mkdtemp(dir=sys.argv[3]))
    stock = yf.Ticker(job["ticker"])
    stock._tz = job.get("zone")
    try:
        if job["what"] == "info":
            return {"info": stock.info}
        frame = stock.history(
            start=job["start"], end=job["end"], auto_adjust=False, actions=True, timeout=job.get("timeout", 10)
        )
    except Exception as error:
        return {"error": type(error).__name__, "reason": getattr(error, "yahoo_reason", None)}
    frame.insert(0, "Date", [str(day.date()) for day in frame.index])
    period = stock.history_metadata["currentTradingPeriod"]["regular"]
    return {"rows": frame.to_dict("list"), "open": [period["start"].timestamp(), period["end"].timestamp()]}

if __name__ == "__main__":
    jobs = json.loads(sys.argv[1])
    if sys.argv[2] == "fork":
        with multiprocessing.get_context("fork").Pool(len(jobs)) as pool:
            print(json.dumps(pool.map(do, jobs, chunksize=1)))
    else:
        print(json.dumps([do(job) for job in jobs]))
"""


def run(yahoo: LoopbackYahoo, folder: Path, jobs: list[dict[str, Any]], mode: str = "one by one") -> list[Any]:
    """What yfinance makes of each job, in a process that knows of the server by its environment alone."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, json.dumps(jobs), mode, str(folder)],
        env={**os.environ, **yahoo.environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def history(ticker: str, start: str = START, end: str = END, **more: object) -> dict[str, Any]:
    return {"what": "history", "ticker": ticker, "start": start, "end": end, **more}


def info(ticker: str) -> dict[str, Any]:
    return {"what": "info", "ticker": ticker}


def make_bars(seed: int = 1) -> pd.DataFrame:
    """Bars of 60 days whose prices have all the digits that a float can have."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"date": pd.bdate_range("2024-01-01", periods=60)})
    for name in ("open", "high", "low", "close", "adj_close"):
        frame[name] = random.uniform(1, 1000, 60)
    frame["volume"] = random.integers(1, 10**12, 60)
    frame["dividends"], frame["stock_splits"] = 0.0, 0.0
    return frame


def rows_of(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """The frame in the words of yfinance."""
    out = {"Date": [str(day.date()) for day in frame["date"]]}
    for name in frame.columns[1:]:
        out[str(name).replace("_", " ").title()] = frame[name].tolist()
    return out


def get(yahoo: LoopbackYahoo, url: str) -> tuple[int, bytes]:
    """One request by a client without cookies."""
    environment = yahoo.environment()
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": environment["HTTPS_PROXY"]}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=environment["SSL_CERT_FILE"])),
    )
    try:
        with opener.open(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def address_of(yahoo: LoopbackYahoo) -> tuple[str, int]:
    return "127.0.0.1", int(yahoo.environment()["HTTPS_PROXY"].rpartition(":")[2])


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[LoopbackYahoo]:
    with LoopbackYahoo(tmp_path / "yahoo") as server:
        yield server


def test_history_is_to_the_last_bit_what_was_added(yahoo: LoopbackYahoo, tmp_path: Path) -> None:
    frame = make_bars()
    frame.loc[[3, 40], "dividends"] = [0.1 + 0.2, 1e-05]
    frame.loc[[7, 20, 30], "stock_splits"] = [1.5, 1 / 3, 0.123456789]
    yahoo.add("^N.Y-1", frame)
    yahoo.add("7203.T", frame.assign(close=frame["close"] + 1), zone="Asia/Tokyo", currency="JPY")
    new_york, tokyo, part = run(
        yahoo, tmp_path, [history("^N.Y-1"), history("7203.T"), history("^N.Y-1", "2024-01-04", "2024-01-09")]
    )
    assert new_york["rows"] == rows_of(frame)
    assert tokyo["rows"] == rows_of(frame.assign(close=frame["close"] + 1))
    assert part["rows"] == rows_of(frame[3:6])
    assert [(each.endpoint, each.status) for each in yahoo.requests if each.ticker == "7203.T"] == [
        ("tz", 200),
        ("chart", 200),
    ]


def test_info_is_what_was_added_and_needs_cookie_and_crumb(yahoo: LoopbackYahoo, tmp_path: Path) -> None:
    given = {"sector": "Energy", "marketCap": 2**40, "longName": "Alpha plc", "trailingPegRatio": 1.25, "beta": None}
    yahoo.add("AAA", make_bars(), info=given, currency="GBp", exchange="LSE", instrument_type="ETF")
    yahoo.add("BBB", make_bars(), info={"quoteType": None})
    answer, untyped = run(yahoo, tmp_path, [info("AAA"), info("BBB")])
    assert "quoteType" not in untyped["info"]
    expected = {**given, "symbol": "AAA", "currency": "GBp", "exchange": "LSE", "quoteType": "ETF", "shortName": "AAA"}
    assert {name: answer["info"].get(name) for name in expected} == expected
    assert [each.endpoint for each in yahoo.requests[:5]] == ["cookie", "crumb", "summary", "quote", "timeseries"]
    status, body = get(yahoo, "https://query2.finance.yahoo.com/v10/finance/quoteSummary/AAA?modules=quoteType&crumb=x")
    assert (status, json.loads(body)["finance"]["error"]["description"]) == (401, "Invalid Crumb")


def test_what_is_not_there_is_missed_in_the_words_of_yahoo(yahoo: LoopbackYahoo, tmp_path: Path) -> None:
    frame = make_bars()
    yahoo.add("AAA", frame.drop(index=range(20, 40)))
    # The zone is given: yfinance would look for the zone of an unknown ticker in its company data, and stop there.
    answers = run(
        yahoo,
        tmp_path,
        [
            history("NONE", zone="UTC"),
            history("AAA", "2020-01-01", "2020-02-01"),
            history("AAA", str(frame["date"][25].date()), str(frame["date"][30].date())),
            history("AAA", "2025-01-01", "2025-02-01"),
        ],
    )
    assert [answer["error"] for answer in answers] == ["YFPricesMissingError"] * 4
    unknown, before, hole, after = (answer["reason"] for answer in answers)
    assert unknown == "No data found, symbol may be delisted"
    assert before.startswith("Data doesn't exist for startDate = 15778")
    assert (hole, after) == (None, None)


FAULTS: dict[FaultKind, tuple[str, str]] = {
    401: ("YFPricesMissingError", "HTTPError"),
    429: ("YFRateLimitError", "YFRateLimitError"),
    500: ("JSONDecodeError", "HTTPError"),
    503: ("JSONDecodeError", "HTTPError"),
    "reset": ("ConnectionError", "ConnectionError"),
    "truncate": ("JSONDecodeError", "JSONDecodeError"),
    "html": ("JSONDecodeError", "JSONDecodeError"),
    "down": ("YFDataException", "JSONDecodeError"),
    "blank": ("JSONDecodeError", "JSONDecodeError"),
}


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[FaultKind, tuple[str, str]]:
    """What yfinance raised for the history and the info of a ticker with each fault."""
    folder = tmp_path_factory.mktemp("faults")
    jobs = []
    with LoopbackYahoo(folder / "yahoo") as yahoo:
        for kind in FAULTS:
            yahoo.add(f"F-{kind}", make_bars())
            yahoo.add(f"G-{kind}", make_bars())
            yahoo.fault(f"?-{str(kind).upper()}", kind)
            jobs += [history(f"F-{kind}", zone="UTC"), info(f"G-{kind}")]
        errors = [answer.get("error", "none") for answer in run(yahoo, folder, jobs)]
    return dict(zip(FAULTS, zip(errors[::2], errors[1::2], strict=True), strict=True))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_arrives_as_that_fault(kind: FaultKind, failures: dict[FaultKind, tuple[str, str]]) -> None:
    assert failures[kind] == FAULTS[kind]


def test_what_is_on_the_wire(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars())
    kinds: dict[str, FaultKind] = {"R429": 429, "R502": 502, "BLANK": "blank", "RESET": "reset"}
    for ticker, kind in kinds.items():
        yahoo.fault(ticker, kind)
    chart = "https://query1.finance.yahoo.com/v8/finance/chart/"
    stamps = json.loads(get(yahoo, f"{chart}AAA?range=max")[1])["chart"]["result"][0]["timestamp"]
    assert [str(pd.Timestamp(stamp, unit="s", tz="America/New_York")) for stamp in stamps[47:49]] == [
        "2024-03-06 09:30:00-05:00",
        "2024-03-07 09:30:00-05:00",
    ]
    # period1 is within, period2 is not; yfinance would cut off what is too much.
    part = json.loads(get(yahoo, f"{chart}AAA?period1={stamps[3]}&period2={stamps[6]}")[1])["chart"]["result"][0]
    assert part["timestamp"] == stamps[3:6]
    assert get(yahoo, f"{chart}R429?range=max") == (429, b"Edge: Too Many Requests")
    assert get(yahoo, f"{chart}R502?range=max") == (502, b"<html>Error 502</html>")
    assert get(yahoo, f"{chart}BLANK?range=max") == (200, b"")
    # Without TLS, through which Python does not tell a reset from an end.
    with socket.create_connection(address_of(yahoo)) as connection:
        connection.sendall(b"GET /v8/finance/chart/RESET?range=max HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert [each.status for each in yahoo.requests] == [200, 200, 429, 502, 200, 0]


def test_a_fault_ends_after_its_times_and_touches_nothing_else(yahoo: LoopbackYahoo, tmp_path: Path) -> None:
    for ticker in ("AAA", "BBB"):
        yahoo.add(ticker, make_bars())
    yahoo.fault("A*", 503, endpoint="chart", times=2)
    yahoo.fault("*", 500, endpoint="crumb", times=1)
    # Another end, because yfinance keeps answers to what it has asked before, the bad ones too.
    jobs = [history("AAA"), history("BBB"), history("AAA", end="2024-12-31"), info("AAA")]
    # It repeats a request by itself after an error status: two faults are one failed history.
    assert ["error" in answer for answer in run(yahoo, tmp_path, jobs)] == [True, False, False, False]
    assert [each.status for each in yahoo.requests if (each.endpoint, each.ticker) == ("chart", "AAA")] == [
        503,
        503,
        200,
    ]
    assert (yahoo.count("chart"), yahoo.count(ticker="BBB")) == (4, 2)
    yahoo.forget_requests()
    assert yahoo.count() == 0


def test_a_mistyped_fault_is_refused(yahoo: LoopbackYahoo) -> None:
    with pytest.raises(ValueError, match="resett"):
        yahoo.fault("*", "resett")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="charts"):
        yahoo.fault("*", 500, endpoint="charts")  # type: ignore[arg-type]


def test_an_open_market_is_open_now(yahoo: LoopbackYahoo, tmp_path: Path) -> None:
    today = pd.Timestamp.now("Asia/Tokyo").tz_localize(None).normalize()
    frame = make_bars()
    frame["date"] += today - frame["date"].iloc[-1]
    yahoo.add("7203.T", frame, zone="Asia/Tokyo")
    day = yahoo.market_open("7203.T")
    (answer,) = run(yahoo, tmp_path, [history("7203.T", "2000-01-01", str(today.date() + pd.Timedelta(days=2)))])
    opens, closes = answer["open"]
    assert opens <= time.time() < closes
    assert str(day) == str(pd.Timestamp(opens, unit="s", tz="Asia/Tokyo").date())
    assert answer["rows"] == rows_of(frame)


def test_twenty_forked_clients_at_once_get_their_own_rows(yahoo: LoopbackYahoo, tmp_path: Path) -> None:
    frames = {f"T{number}": make_bars(number) for number in range(20)}
    for ticker, frame in frames.items():
        yahoo.add(ticker, frame)
    answers = run(yahoo, tmp_path, [history(ticker) for ticker in frames], mode="fork")
    assert [answer.get("rows") for answer in answers] == [rows_of(frame) for frame in frames.values()]
    assert yahoo.count("cookie") == 20


def test_a_hanging_answer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    failed, threads = threading.Event(), set(threading.enumerate())
    with LoopbackYahoo(tmp_path / "yahoo") as yahoo:
        yahoo.add("AAA", make_bars())
        yahoo.fault("AAA", "hang", endpoint="chart")
        assert [answer["error"] for answer in run(yahoo, tmp_path, [history("AAA", timeout=1)])] == ["Timeout"]

        def wait() -> None:
            with pytest.raises(OSError, match="closed"):
                get(yahoo, "https://query1.finance.yahoo.com/v8/finance/chart/AAA?range=max")
            failed.set()

        threading.Thread(target=wait, daemon=True).start()
        assert not failed.wait(1)
        assert yahoo.count("chart") == 2
        before = time.monotonic()
    assert time.monotonic() - before < 1
    assert failed.wait(5)
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert set(threading.enumerate()) <= threads


def test_clients_that_vanish_leave_no_trace(yahoo: LoopbackYahoo, capfd: pytest.CaptureFixture[str]) -> None:
    yahoo.add("AAA", make_bars())
    for words in (b"", b"GET /half", b"CONNECT query1.finance.yahoo.com:443 HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n"):
        with socket.create_connection(address_of(yahoo)) as connection:
            # Closing then sends RST, the rudest way to go.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(words)
            time.sleep(0.05)
    status, body = get(yahoo, "https://query1.finance.yahoo.com/v8/finance/chart/AAA?range=max")
    assert (status, len(json.loads(body)["chart"]["result"][0]["timestamp"])) == (200, 60)
    assert capfd.readouterr().err == ""


def test_nothing_but_yahoo_can_be_reached(yahoo: LoopbackYahoo) -> None:
    with pytest.raises(OSError, match="403"):
        get(yahoo, "https://example.com/")
    assert [(each.endpoint, each.query) for each in yahoo.requests] == [("connect", {"host": "example.com"})]
    assert get(yahoo, "https://query1.finance.yahoo.com/v1/finance/search?q=x")[0] == 404
