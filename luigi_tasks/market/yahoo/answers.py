"""What an answer of Yahoo's means: the one place where statuses, bodies and Yahoo's own words are interpreted.

Everything that is not an answer to the question is raised as an error of ours, before yfinance sees it: yfinance would
ask again at once, keep the bad answer in its cache, or take it for an empty history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from luigi_tasks.budget import Kind
from luigi_tasks.errors import (
    AnswerNotUnderstood,
    AuthorisationFailure,
    ConfigurationError,
    NetworkFailure,
    NoSuchTicker,
    ProviderDown,
    WrongAnswer,
)
from luigi_tasks.tickers import did_you_mean

# Yahoo's own words, from its JSON error descriptions.
_NO_DATA_IN_RANGE = "Data doesn't exist for startDate"
_UNKNOWN_TICKER = ("No data found, symbol may be delisted", "Quote not found")
_NO_COMPANY_DATA = ("No fundamentals data found", *_UNKNOWN_TICKER)
"""The chart alone tells whether there is a ticker: of many that it has, quoteSummary says that there is no quote."""
_GRANULARITY = "1d"
_DOWN_PAGE = b"Will be right back"
_COOKIE_HOST = "fc.yahoo.com"
_TIMESERIES = "/ws/fundamentals-timeseries/"
"""What yfinance's own ways ask for, too; nothing of it is read."""
_CRUMB_PATH = "/v1/test/getcrumb"
_CONSENT_HOSTS = ("guce.yahoo.com", "consent.yahoo.com")
_ROOTS: dict[Kind, str] = {"prices": "chart", "company": "quoteSummary", "quotes": "quoteResponse"}
_WORDS: dict[Kind, str] = {"prices": "a chart", "company": "a quoteSummary", "quotes": "a quote", "access": "a crumb"}


class NoDataInRange(Exception):
    """Yahoo itself said that the ticker has no bars in the range; never leaves this package."""


class NoCompanyData(Exception):
    """Yahoo itself said that it has no company data of the ticker; never leaves this package."""


@dataclass(frozen=True)
class Question:
    """What a request asks for; `ticker` is empty where it is not about one."""

    kind: Kind
    ticker: str
    url: str
    tickers: tuple[str, ...] = ()
    """Those of a question about many."""

    @classmethod
    def of(cls, url: str, params: Mapping[str, Any] | None = None) -> Question:
        """`params` are those of the query that are not in the URL yet."""
        parts = urlsplit(url)
        last = unquote(parts.path.rpartition("/")[2])
        if parts.path.startswith("/v8/finance/chart/"):
            return cls("prices", last, url)
        if parts.path.startswith(("/v10/finance/quoteSummary/", _TIMESERIES)):
            return cls("company", last, url)
        if parts.path == "/v7/finance/quote":
            symbols = (params or {}).get("symbols") or dict(parse_qsl(parts.query)).get("symbols", "")
            tickers = tuple(str(symbols).split(","))
            return cls("quotes", tickers[0] if len(tickers) == 1 else "", url, tickers)
        host = parts.hostname or ""
        if host == _COOKIE_HOST or host in _CONSENT_HOSTS or parts.path == _CRUMB_PATH:
            return cls("access", "", url)
        raise ConfigurationError(
            f"yfinance's request for {host}{parts.path}",
            "is none that this project knows how to answer for",
            "Install the yfinance that constraints.txt names.",
        )

    @property
    def subject(self) -> str:
        if self.tickers:
            return named(self.tickers)
        return self.ticker or urlsplit(self.url).netloc

    @property
    def what(self) -> str:
        """What yfinance asked for, in words."""
        parts = urlsplit(self.url)
        return f"{_WORDS[self.kind]} ({parts.netloc}{parts.path})"

    @property
    def root(self) -> str:
        """The one key of the JSON answer."""
        return _ROOTS[self.kind]


def named(tickers: Sequence[str]) -> str:
    """Several tickers as the subject of one question."""
    return tickers[0] if len(tickers) == 1 else f"{tickers[0]} and {len(tickers) - 1} more"


def read(question: Question, status: int, url: str, body: bytes) -> Any:
    """The JSON document of an answer about the question; None where the answer is none of JSON by design.

    `url` is where the answer came from, after redirects. A 429 is not for here.

    Raises:
        ProviderDown, AuthorisationFailure, AnswerNotUnderstood: no answer to the question.
        WrongAnswer: bars that are none of a day each.
        NoSuchTicker, NoDataInRange, NoCompanyData: Yahoo's own answer.
    """
    ticker = question.subject
    if question.kind == "access":
        # The cookie comes with pages of any status; a crumb that is none is found out by who wants it.
        if status >= 500 and question.url.endswith(_CRUMB_PATH):
            raise ProviderDown(ticker, f"Yahoo answered {status}")
        return None
    if urlsplit(url).hostname in _CONSENT_HOSTS:
        # yfinance fills in the form and gets the answer by it.
        return None
    if status >= 500:
        raise ProviderDown(ticker, f"Yahoo answered {status}")
    try:
        document = json.loads(body)
        error = _error(document)
    except (ValueError, TypeError, AttributeError, RecursionError) as problem:
        if status in (401, 403):
            raise AuthorisationFailure(ticker, f"Yahoo refused the request ({status})") from problem
        if _DOWN_PAGE in body:
            raise ProviderDown(ticker, "Yahoo says that it will be right back") from problem
        if status != 200:
            raise AnswerNotUnderstood(ticker, f"Yahoo answered {status}, and not in JSON") from problem
        what = "blank" if not body.strip() else "not JSON (an error page, or cut off)"
        raise ProviderDown(ticker, f"Yahoo's answer is {what}") from problem
    code, words = error
    if status in (401, 403) or code == "Unauthorized":
        raise AuthorisationFailure(ticker, f"Yahoo refused the cookie or crumb ({status} {words!r})")
    if question.kind == "company" and words.startswith(_NO_COMPANY_DATA):
        raise NoCompanyData(words)
    if words.startswith(_UNKNOWN_TICKER):
        reason = f"Yahoo has no such ticker, or has it no more: {words!r}"
        raise NoSuchTicker(ticker, reason, did_you_mean(ticker))
    if words.startswith(_NO_DATA_IN_RANGE):
        raise NoDataInRange(words)
    if code or words:
        raise AnswerNotUnderstood(ticker, f"Yahoo gave a reason that is not known here: {words or code!r}")
    if status != 200:
        raise AnswerNotUnderstood(ticker, f"Yahoo answered {status}")
    _require_answer_to(question, document)
    return document


def network_failure(question: Question, error: Exception) -> NetworkFailure:
    """For an error of curl's: there was no answer, or not all of it."""
    return NetworkFailure(question.subject, f"no answer from Yahoo ({in_a_line(error)})")


def in_a_line(error: BaseException) -> str:
    # libcurl ends every message with advice to read its own documentation.
    text = " ".join(str(error).split()).partition(" See https://curl.se")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _error(document: Any) -> tuple[str, str]:
    """Code and description of the error in the document; empty where there is none."""
    roots = [root for root in document.values() if isinstance(root, dict)]
    error = next((root["error"] for root in roots if root.get("error")), None)
    if error is None:
        return "", ""
    if not isinstance(error, dict):
        return "error", str(error)
    return str(error.get("code") or ""), str(error.get("description") or "")


def _require_answer_to(question: Question, document: Any) -> None:
    if urlsplit(question.url).path.startswith(_TIMESERIES):
        return
    if question.kind == "quotes":
        found = document.get("quoteResponse", {}).get("result") if isinstance(document, dict) else None
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise AnswerNotUnderstood(question.subject, "Yahoo's answer has no quotes")
        return
    try:
        result = document[question.root]["result"][0]
        part = result["meta"] if question.kind == "prices" else result.get("quoteType") or {}
        answered = part["symbol"] if question.kind == "prices" else part.get("symbol", question.ticker)
        asked = str(answered).upper() == question.ticker.upper()
        granularity = part.get("dataGranularity") or _GRANULARITY
    except (KeyError, IndexError, TypeError, AttributeError) as problem:
        raise AnswerNotUnderstood(question.ticker, "Yahoo's answer has no result") from problem
    if not asked:
        raise AnswerNotUnderstood(question.ticker, f"Yahoo's answer is about {str(answered)[:40] or 'no ticker'}")
    if question.kind == "prices" and granularity != _GRANULARITY:
        raise WrongAnswer(
            question.ticker,
            f"Yahoo's bars are of {str(granularity)[:40]}, and daily ones were asked for",
            "Nothing was stored; run again later.",
        )
