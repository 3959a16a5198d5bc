"""The session that yfinance sends its requests through (its `session=`), in one process.

Every request waits for the shared budget's leave, and every answer is read before yfinance sees it. So nobody sends
while all are to pause, and a bad answer is an exception: yfinance neither asks again by itself nor caches it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from curl_cffi import CurlOpt, requests

from luigi_tasks.budget import Budget, Permit
from luigi_tasks.errors import (
    AnswerNotUnderstood,
    AuthorisationFailure,
    CredentialsRefused,
    NetworkFailure,
    ProviderDown,
    RefusedAlone,
    SecondRequest,
    Throttled,
)
from luigi_tasks.market.yahoo import answers
from luigi_tasks.market.yahoo.chart import Chart

logger = logging.getLogger(__name__)
_LARGEST_ANSWER = 20_000_000
"""Bytes, uncompressed. 150 years of daily bars are some 6 million; what is larger could take all memory there is."""
REFERENCES = ("AAPL", "MSFT", "SPY")
"""Tickers that Yahoo has beyond doubt."""
_A_DAY = {"range": "1d", "interval": "1d"}
_CHART = "https://query1.finance.yahoo.com/v8/finance/chart/"
_NO_USABLE_ANSWER = (ProviderDown, NetworkFailure, AnswerNotUnderstood)


class PacedSession(requests.Session[requests.Response]):
    """A curl_cffi session; for one process only, never to be carried across a fork."""

    def __init__(self, budget: Budget, timeout: float, references: Sequence[str] = REFERENCES) -> None:
        """`timeout` is in seconds, for one request; time spent waiting for the budget does not count. `references` are
        tickers that Yahoo has beyond doubt: one is asked about to find out whether it is a question that it refuses."""
        super().__init__(impersonate="chrome", curl_options={CurlOpt.MAXFILESIZE_LARGE: _LARGEST_ANSWER})
        self._budget = budget
        self._references = references
        self.longest = timeout
        self.on_behalf = ""
        """The ticker that is being asked about, also by a request for a crumb."""
        self.chart: Chart | None = None
        """Of the last answer with bars, what yfinance does not get to see, or changes."""
        self._answered: str | None = None
        self._excess: SecondRequest | None = None
        self._for_access = False

    @contextlib.contextmanager
    def for_access(self) -> Iterator[None]:
        """Within it cookies and crumbs may be asked for, which are shared by all processes."""
        self._for_access = True
        try:
            yield
        finally:
            self._for_access = False

    @contextlib.contextmanager
    def one_question(self) -> Iterator[None]:
        """Within it one request may be answered, but for shared cookies and crumbs: what yfinance sends beyond is
        refused.

        Raises:
            SecondRequest: at its end, too, where yfinance has swallowed the one that was raised in it.
        """
        self._answered, self._excess = "", None
        try:
            yield
        finally:
            excess, self._answered, self._excess = self._excess, None, None
            if excess is not None:
                raise excess

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        """Sends when the budget allows it; again after a 429, if the budget is patient.

        Raises:
            Throttled, ProviderDown, NetworkFailure, AuthorisationFailure, AnswerNotUnderstood: see `answers.read`.
            CredentialsRefused: an AuthorisationFailure like those of many others; everybody pauses.
            RefusedAlone: Yahoo refuses this question again and again, and answers others.
            SecondRequest: this is more than one question needs.
            PatienceExhausted: the budget says so.
        """
        question = answers.Question.of(url, kwargs.get("params"))
        self._require_first(question)
        kwargs["timeout"] = min(kwargs.get("timeout") or self.longest, self.longest)
        while True:
            permit = self._budget.enter(question.kind, question.ticker or self.on_behalf or question.subject)
            if permit.reference:
                self._use_for_reference(permit)
                continue
            try:
                response = super().request(method, url, *args, **kwargs)
            except requests.exceptions.RequestException as error:
                self._budget.leave(permit, "down")
                if question.kind == "access":
                    # yfinance has another way to a cookie, which it takes after an error that it knows.
                    raise
                raise answers.network_failure(question, error) from error
            if response.status_code == 429 or (question.kind == "access" and b"Too Many Requests" in response.content):
                reaction = self._budget.leave(permit, "throttled", _retry_after(response))
                logger.info("%s: throttled", question.subject)
                if reaction == "alone":
                    reason = "Yahoo answers 429, too many requests, again and again, and answers other questions"
                    raise RefusedAlone(question.subject, reason, "Run again later.")
                if self._budget.patient:
                    continue
                raise Throttled(question.subject, "Yahoo answered 429, too many requests")
            try:
                document = answers.read(question, response.status_code, str(response.url), response.content)
            except _NO_USABLE_ANSWER:
                self._budget.leave(permit, "down")
                raise
            except AuthorisationFailure as error:
                if self._budget.leave(permit, "unauthorised") == "paused" and self._budget.patient:
                    raise CredentialsRefused(error.subject, error.reason, error.remedy) from error
                raise
            except Exception:
                self._budget.leave(permit, "answered")
                raise
            self._budget.leave(permit, "answered")
            if self._answered is not None and question.kind != "access":
                self._answered = question.what
            if document is not None:
                if question.kind == "prices":
                    self.chart = Chart.of(document)
                # It has been parsed already; ten years of bars take a while.
                response.json = partial(_parsed, document)  # type: ignore[method-assign]
            return response

    def _require_first(self, question: answers.Question) -> None:
        """Raise SecondRequest where the question that is being asked has had its answer."""
        by_itself = question.kind == "access" and not self._for_access
        if self._answered is not None and (by_itself or (self._answered and question.kind != "access")):
            after = f"after {self._answered}, where one request tells all" if self._answered else "by itself"
            self._excess = SecondRequest(
                question.subject,
                f"yfinance asked for {question.what} {after}",
                "Install the yfinance that constraints.txt names, or set [Yahoo] plain = true.",
            )
            raise self._excess

    def ask_for_reference(self) -> None:
        """Ask for a day of a well-known ticker's bars. Raises like `request`."""
        self.request("GET", self._reference(), params=_A_DAY)

    def _reference(self, other_than: str = "") -> str:
        """The address of a well-known ticker's chart."""
        return _CHART + next(each for each in (*self._references, *REFERENCES) if each != other_than)

    def _use_for_reference(self, permit: Permit) -> None:
        """Ask for a day of a well-known ticker's bars in place of the question, and tell the budget what came of it."""
        try:
            response = super().request("GET", self._reference(permit.subject), params=_A_DAY, timeout=self.longest)
        except requests.exceptions.RequestException:
            self._budget.leave(permit, "down")
            return
        match response.status_code:
            case 429:
                self._budget.leave(permit, "throttled", _retry_after(response))
            case 401 | 403:
                self._budget.leave(permit, "unauthorised")
            case status:
                self._budget.leave(permit, "answered" if status < 500 else "down")


def _parsed(document: Any, **_: Any) -> Any:
    return document


def _retry_after(response: Any) -> float:
    """Seconds; 0 where the header is missing, or a date."""
    with contextlib.suppress(ValueError):
        return float(response.headers.get("Retry-After") or 0)
    return 0.0
