"""All that goes beyond what yfinance offers officially; `tests/market/test_yfinance_ways.py` holds each against the
installed version, so that an upgrade that breaks one fails loudly.

* `YfData._get_cookie_and_crumb` is replaced: cookie and crumb are those that all processes share. The methods below it
  still get them, once a run. `_load_cookie_curlCffi`, `_save_cookie_curlCffi` do nothing: the cookie is ours.
* `Ticker._tz` is set: the zone lookup would cost a second chart request. yfinance's own zone cache would do, too, but
  it is an SQLite file, as its cookie cache is, and processes that start together fail on these.
* `YfData.cache_get`, an lru_cache, is emptied before every question.
* `Ticker.info` asks quoteSummary alone: `Quote._fetch_additional_info` and `_fetch_complementary` would send two more
  requests, for quotes of the day and one ratio.
* `YfData.get_raw_json` asks for quotes of many tickers: yfinance asks for one at a time.
* The document that it parses is the one that `response.json()` of our session gives, and is parsed without its events:
  we read these (`chart.py`), and it adds none to bars, and no rows.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from luigi_tasks.budget import Access
from luigi_tasks.errors import AuthorisationFailure, ConfigurationError
from luigi_tasks.market.yahoo.session import PacedSession

_QUOTES = "https://query1.finance.yahoo.com/v7/finance/quote"
_CRUMB = re.compile(r"[^\s<>{}]{1,64}\Z")

_CALLED = ("_get_crumb_basic", "_get_crumb_csrf", "get_raw_json")
"""What is called here. Whether what is replaced here still is what yfinance goes by shows in what it sends: the session
refuses all but the one request that a question needs."""


class Yfinance:
    """yfinance, set up for this process and this session alone."""

    def __init__(self, session: PacedSession, crumb: Callable[[], str | None], *, plain: bool = False) -> None:
        """`crumb` is asked before every request and tells the crumb to send, None for none.

        If `plain`, nothing of yfinance is replaced: it asks in its own ways, with cookies and crumbs of its own, and
        keeps none of them.
        """
        import yfinance as yf

        # Importing it turns warnings about its own code back on, a page of them for every ticker.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")
        # By default yfinance turns a 500, a time-out or cut JSON into an empty history, "possibly delisted".
        yf.config.debug.hide_exceptions = False
        self._yf, self._session, self._plain = yf, session, plain
        if plain:
            # Where no folder can be, yfinance does without its caches, which processes lock each other out of.
            yf.set_tz_cache_location(f"{os.devnull}/none")
            return
        self._data = yf.data.YfData(session=session)
        _require(self._data, *_CALLED)
        self._data._get_cookie_and_crumb = lambda timeout=30: (crumb(), "basic")
        self._data._load_cookie_curlCffi = self._data._save_cookie_curlCffi = lambda: False

    def ticker(self, symbol: str, zone: str | None = None) -> Any:
        """yfinance's Ticker, whose `history` and `info` send one request each, also if they were asked the same before.

        yfinance keeps answers for the life of the process, and gives them again: bad ones, too.
        """
        if self._plain:
            return self._yf.Ticker(symbol, session=self._session)
        self._yf.data.YfData.cache_get.cache_clear()
        stock = self._yf.Ticker(symbol, session=self._session)
        _require(stock, "_quote")
        stock._tz = zone or "UTC"
        stock._quote._fetch_additional_info = lambda: None
        stock._quote._already_fetched_complementary = True
        return stock

    def quotes(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """Yahoo's quotes of them, as it sends them, by one request: what `info` does for one ticker."""
        self._yf.data.YfData.cache_get.cache_clear()
        params = {"symbols": ",".join(symbols), "formatted": "false", "lang": "en-US", "region": "US"}
        answer = self._data.get_raw_json(_QUOTES, params=params)
        return list(answer["quoteResponse"]["result"])

    def use(self, access: Access) -> None:
        """Send these cookies from now on."""
        self._session.cookies.clear()
        for cookie in access.cookies:
            self._session.cookies.set(
                cookie["name"], cookie["value"], domain=cookie["domain"], path=cookie["path"], secure=cookie["secure"]
            )

    def new_access(self, old: Access | None, refused: str | None) -> Access:
        """A crumb by yfinance's own ways: with the cookies there are, with new ones, and by its consent form.

        Raises:
            AuthorisationFailure: none of them gave a crumb.
        """
        data = self._data
        ways = [("basic", True)] if old is not None else []
        for strategy, cookies_are_there in (*ways, ("basic", False), ("csrf", False)):
            if cookies_are_there and old is not None:
                self.use(old)
            else:
                self._session.cookies.clear()
            data._crumb, data._cookie, data._cookie_strategy = None, cookies_are_there or None, strategy
            with self._session.for_access():
                crumb = data._get_crumb_basic(30) if strategy == "basic" else data._get_crumb_csrf(30)
            # The same cookies would give the refused crumb again.
            same = cookies_are_there and crumb == refused
            if crumb is not None and _CRUMB.match(crumb) and not same:
                return Access(crumb, tuple(_plain(cookie) for cookie in self._session.cookies.jar))
        raise AuthorisationFailure("Yahoo Finance", "gave no crumb, by none of yfinance's ways")


def _require(part: object, *names: str) -> None:
    """Fail loudly where an upgrade of yfinance has taken away what is replaced here."""
    missing = [name for name in names if not hasattr(part, name)]
    if missing:
        raise ConfigurationError(
            f"yfinance's {type(part).__name__}",
            f"has no {', '.join(missing)} any more",
            "Install the yfinance that constraints.txt names, or set [Yahoo] plain = true.",
        )


def _plain(cookie: Any) -> dict[str, Any]:
    names = ("name", "value", "domain", "path", "secure", "expires")
    return {name: getattr(cookie, name) for name in names}
