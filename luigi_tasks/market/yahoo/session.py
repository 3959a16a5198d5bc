"""The session that yfinance sends its requests through (its `session=`), in one process.

Every request waits for the shared budget's leave, and every answer is read before yfinance sees it. So nobody sends
while all are to pause, and a bad answer is an exception: yfinance neither asks again by itself nor caches it.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from typing import Any

from curl_cffi import CurlOpt, requests

from luigi_tasks.budget import Budget
from luigi_tasks.errors import AnswerNotUnderstood, NetworkFailure, ProviderDown, Throttled
from luigi_tasks.market.yahoo import answers
from luigi_tasks.market.yahoo.chart import Chart

logger = logging.getLogger(__name__)
_LARGEST_ANSWER = 20_000_000
"""Bytes, uncompressed. 150 years of daily bars are some 6 million; what is larger could take all memory there is."""
_NO_USABLE_ANSWER = (ProviderDown, NetworkFailure, AnswerNotUnderstood)


class PacedSession(requests.Session[requests.Response]):
    """A curl_cffi session; for one process only, never to be carried across a fork."""

    def __init__(self, budget: Budget, timeout: float) -> None:
        """`timeout` is in seconds, for one request; time spent waiting for the budget does not count."""
        super().__init__(impersonate="chrome", curl_options={CurlOpt.MAXFILESIZE_LARGE: _LARGEST_ANSWER})
        self._budget = budget
        self.longest = timeout
        self.on_behalf = ""
        """The ticker that is being asked about, also by a request for a crumb."""
        self.chart: Chart | None = None
        """Of the last answer with bars, what yfinance does not get to see, or changes."""

    def request(self, method: Any, url: str, *args: Any, **kwargs: Any) -> Any:
        """Sends when the budget allows it; again after a 429, if the budget is patient.

        Raises:
            Throttled, ProviderDown, NetworkFailure, AuthorisationFailure, AnswerNotUnderstood: see `answers.read`.
            PatienceExhausted: the budget says so.
        """
        question = answers.Question.of(url)
        kwargs["timeout"] = min(kwargs.get("timeout") or self.longest, self.longest)
        while True:
            permit = self._budget.enter(question.kind, question.ticker or self.on_behalf or question.subject)
            try:
                response = super().request(method, url, *args, **kwargs)
            except requests.exceptions.RequestException as error:
                self._budget.leave(permit, "down")
                if question.kind == "access":
                    # yfinance has another way to a cookie, which it takes after an error that it knows.
                    raise
                raise answers.network_failure(question, error) from error
            if response.status_code == 429 or (question.kind == "access" and b"Too Many Requests" in response.content):
                self._budget.leave(permit, "throttled", _retry_after(response))
                logger.info("%s: throttled", question.subject)
                if self._budget.patient:
                    continue
                raise Throttled(question.subject, "Yahoo answered 429, too many requests")
            try:
                document = answers.read(question, response.status_code, str(response.url), response.content)
            except _NO_USABLE_ANSWER:
                self._budget.leave(permit, "down")
                raise
            except Exception:
                self._budget.leave(permit, "answered")
                raise
            self._budget.leave(permit, "answered")
            if document is not None:
                if question.kind == "prices":
                    self.chart = Chart.of(document)
                # It has been parsed already; ten years of bars take a while.
                response.json = partial(_parsed, document)  # type: ignore[method-assign]
            return response


def _parsed(document: Any, **_: Any) -> Any:
    return document


def _retry_after(response: Any) -> float:
    """Seconds; 0 where the header is missing, or a date."""
    with contextlib.suppress(ValueError):
        return float(response.headers.get("Retry-After") or 0)
    return 0.0
