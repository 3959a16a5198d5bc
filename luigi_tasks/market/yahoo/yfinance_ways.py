"""All that goes beyond what yfinance offers officially; `tests/market/test_yfinance_ways.py` holds each against the
installed version, so that an upgrade that breaks one fails loudly.

* `YfData._get_cookie_and_crumb` is replaced: cookie and crumb are those that all processes share. The methods below it
  still get them, once a run. `_load_cookie_curlCffi`, `_save_cookie_curlCffi` do nothing: the cookie is ours.
* `Ticker._tz` is set: the zone lookup would cost a second chart request. yfinance's own zone cache would do, too, but
  it is an SQLite file, as its cookie cache is, and processes that start together fail on these.
* `YfData.cache_get`, an lru_cache, is emptied before every question.
* `Ticker.info` asks quoteSummary alone: `Quote._fetch_additional_info` and `_fetch_complementary` would send two more
  requests, for quotes of the day and one ratio.
* The document that it parses is the one that `response.json()` of our session gives, and is parsed without its events:
  we read these (`chart.py`), and it adds none to bars, and no rows.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

from luigi_tasks.budget import Access
from luigi_tasks.errors import AuthorisationFailure, ConfigurationError
from luigi_tasks.market.yahoo.session import PacedSession

_CRUMB = re.compile(r"[^\s<>{}]{1,64}\Z")

_OF_DATA = (
    "_get_cookie_and_crumb",
    "_get_crumb_basic",
    "_get_crumb_csrf",
    "_load_cookie_curlCffi",
    "_save_cookie_curlCffi",
    "_crumb",
    "_cookie",
    "_cookie_strategy",
)
_OF_QUOTE = ("_fetch_info", "_fetch_additional_info", "_fetch_complementary", "_already_fetched_complementary")


class Yfinance:
    """yfinance, set up for this process and this session alone."""

    def __init__(self, session: PacedSession, crumb: Callable[[], str | None]) -> None:
        """`crumb` is asked before every request and tells the crumb to send, None for none."""
        import yfinance as yf

        # Importing it turns warnings about its own code back on, a page of them for every ticker.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")
        # By default yfinance turns a 500, a time-out or cut JSON into an empty history, "possibly delisted".
        yf.config.debug.hide_exceptions = False
        self._yf, self._session = yf, session
        self._data = yf.data.YfData(session=session)
        _require(self._data, *_OF_DATA)
        self._data._get_cookie_and_crumb = lambda timeout=30: (crumb(), "basic")
        self._data._load_cookie_curlCffi = self._data._save_cookie_curlCffi = lambda: False

    def ticker(self, symbol: str, zone: str | None = None) -> Any:
        """yfinance's Ticker, whose `history` and `info` send one request each, also if they were asked the same before.

        yfinance keeps answers for the life of the process, and gives them again: bad ones, too.
        """
        self._yf.data.YfData.cache_get.cache_clear()
        stock = self._yf.Ticker(symbol, session=self._session)
        _require(stock, "_tz", "_quote")
        _require(stock._quote, *_OF_QUOTE)
        stock._tz = zone or "UTC"
        stock._quote._fetch_additional_info = lambda: None
        stock._quote._already_fetched_complementary = True
        return stock

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
            "Install the yfinance that constraints.txt names.",
        )


def _plain(cookie: Any) -> dict[str, Any]:
    names = ("name", "value", "domain", "path", "secure", "expires")
    return {name: getattr(cookie, name) for name in names}
