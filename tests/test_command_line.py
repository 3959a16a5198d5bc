"""What Luigi would refuse is said in one line, with what helps; what it takes is left to it."""

from __future__ import annotations

import pytest

from luigi_tasks.command_line import check
from luigi_tasks.errors import ConfigurationError

MODULE = ("--module", "luigi_tasks")
APART = "the shell takes words apart at blanks. Write it without the blank, or in quotes: --tickers"


@pytest.mark.parametrize(
    "arguments",
    [
        ["RunAll"],
        ["RunAll", "--workers", "20", "--tickers", "AAPL,MSFT", "--date", "2024-03-15", "--full", "--local-scheduler"],
        ["RunAll", "--tickers=AAPL, MSFT", "--ticker-l", "5", "--groupings", "()"],
        ["InsertOhlcv", "--ticker", "^GSPC", "--no-lock", "--log-level", "DEBUG"],
        ["InsertOhlcv", "--InsertOhlcv-ticker", "AAPL", "--DownloadOhlcv-attempts", "2"],
        ["RangeDaily", "--of", "RunAll", "--start", "2024-03-01", "--of-params", '{"tickers": "AAPL,MSFT"}'],
        ["GenerateReport", "--run-id", "20240315T000000Z-000000"],
        ["RunAll", "--help", "--no-such-option"],
        [],
    ],
)
def test_what_luigi_takes_is_left_to_it(arguments: list[str]) -> None:
    check([*MODULE, *arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tickers", "AAPL,", "MSFT"], f"'MSFT': is a word of its own, and not part of --tickers: {APART} AAPL,MSFT"),
        (["--tickers=AAPL", "MSFT,", "NVDA", "--full"], f"{APART} AAPL,MSFT,NVDA"),
        (["--full", "--groupings", "a,", "b", "--years-back", "1"], "or in quotes: --groupings a,b"),
        (["--date", "2024-03-15", "10:00"], "'10:00': belongs to no option. Text with blanks needs quotes"),
        (["--workers", "abc"], "--workers 'abc': is not a whole number"),
        (["--worker-timeout", "abc"], "--worker-timeout 'abc': is not a whole number"),
        (["--date", "nonsense"], "--date 'nonsense': is not a day. It looks like 2026-11-20."),
        (["--date", ""], "--date '': is not a day"),
        (["--years-back", "ten"], "--years-back 'ten': is not a whole number"),
        (["--tickers", " , "], "--tickers ' , ': names nothing. Name at least one, or leave the option out."),
        (["--tickers", "--full"], "--tickers: expected one argument"),
        (["--ticker", "AAPL"], "ambiguous option: --ticker could match --tickers, --ticker-limit"),
        (["--tikcers", "AAPL"], "'--tikcers': is no option of RunAll. Did you mean --tickers?"),
        (["--xyzzy=AAPL"], "'--xyzzy': is no option of RunAll. luigi --module luigi_tasks RunAll --help lists"),
    ],
)
def test_what_luigi_refuses_is_said_in_a_line(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check([*MODULE, "RunAll", *arguments])

    assert str(raised.value).startswith(words) or words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["DownloadOhlcv"], "DownloadOhlcv: has no ticker. Give it with --ticker (as Yahoo writes it: AAPL, BRK-B,"),
        (["InsertOhlcv", "--tickers", "AAPL"], "'--tickers': is no option of InsertOhlcv. Did you mean --ticker?"),
        (["RunAl"], "task 'RunAl': there is none of this name. Did you mean RunAll?"),
        (["RangeDaily", "--of", "RunAll", "--of-params", "tickers"], "--of-params 'tickers': cannot be used ("),
    ],
)
def test_so_is_what_another_task_lacks(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check([*arguments, *MODULE])

    assert str(raised.value).startswith(words)


def test_a_line_is_short_whatever_was_written() -> None:
    for arguments in (["--tickers", "A,", "x" * 5000], ["--" + "x" * 5000], ["--date", "x" * 5000]):
        with pytest.raises(ConfigurationError) as raised:
            check([*MODULE, "RunAll", *arguments])
        assert len(str(raised.value)) < 700
