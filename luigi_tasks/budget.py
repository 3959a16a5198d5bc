"""What all processes that ask one provider share: how often they may, when nobody may, and the session's credentials.

`market` asks before every single request; `database` has the implementation that several machines can share. The two
do not know each other and meet here, as they meet for bars in `bars.py`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal["prices", "quotes", "company", "access"]
"""Classes of endpoints with a rate of their own: bars; quotes, for many tickers at once; company data, of one; and what
gets a cookie and a crumb."""

KINDS: tuple[Kind, ...] = ("prices", "quotes", "company", "access")

FIRST_CLAIM: tuple[Kind, ...] = ("prices", "quotes", "access")
"""Those that come before the others, where the rate of all kinds together does not suffice."""

Outcome = Literal["answered", "throttled", "unauthorised", "down"]
"""What a request came to: any answer about the question, a 429, credentials that were refused, or nothing usable."""

Reaction = Literal["none", "paused", "alone"]
"""What a request that was not answered has brought about: nothing; everybody waits, so that it may be sent again; or it
is refused by itself while others are answered, and shall not be sent again."""


@dataclass(frozen=True)
class Pace:
    """How fast to ask and how long to wait; durations in seconds."""

    per_minute: Mapping[Kind, float]
    """Requests a minute that are never exceeded on average; 0, or not named: no limit."""
    all_per_minute: float = 0.0
    """The same, of all kinds that have a limit together; 0: none."""
    burst: int = 5
    """Requests of one kind that may be sent at once after a quiet time."""
    first_pause: float = 15.0
    longest_pause: float = 600.0
    patience: float = 3600.0
    """Of throttling without a single answer, after which a run gives up."""
    outage_patience: float = 300.0
    """The same for a provider that is down."""
    lease: float = 60.0
    """After which a probe that was never heard of again is taken for dead."""


@dataclass(frozen=True)
class Permit:
    """Leave to send one request; to be handed back with what it came to."""

    kind: Kind
    subject: str
    entered: dt.datetime
    probe: bool = False
    """The one request that finds out whether a pause may end."""
    reference: bool = False
    """A well-known ticker is to be asked about instead, to find out whether it is this question alone that is refused.
    """
    quiet: bool = False
    """All was well when it was given, so that an answer is no news."""


@dataclass(frozen=True)
class Access:
    """An anonymous session with the provider; it is not tied to an account."""

    crumb: str
    cookies: tuple[dict[str, Any], ...]
    """JSON values: name, value, domain, path, secure, expires (epoch seconds or null)."""


@dataclass(frozen=True)
class Forecast:
    """How long requests take at least, in seconds from the end of `paused`, for which nobody may ask."""

    closes: float | None
    """Until all bars are in; None: they have no rate."""
    company: float | None
    """Until all company data is in, too, for which the bars are waited for; None: it has no rate."""
    paused: float = 0.0


class Budget(Protocol):
    """To be asked for every request."""

    patient: bool
    """Whether a throttled request should be sent again: `enter` then waits until it may be."""

    def enter(self, kind: Kind, subject: str) -> Permit:
        """Wait until a request about `subject` may be sent.

        Raises:
            PatienceExhausted: the provider has kept everybody waiting for too long.
        """

    def leave(self, permit: Permit, outcome: Outcome, retry_after: float = 0.0) -> Reaction:
        """Say what the request came to; `retry_after` is what the provider asked for, in seconds."""

    def access(self) -> Access | None:
        """The credentials that are in use, None before the first."""

    def renew_access(self, refused: Access | None, fetch: Callable[[], Access]) -> Access:
        """Others than the refused ones: by `fetch`, unless somebody else was faster. One process fetches at a time."""


class LocalBudget:
    """A budget for one process without a database: it counts nothing, waits for nobody, and keeps the credentials."""

    patient = False

    def __init__(self) -> None:
        self._access: Access | None = None

    def enter(self, kind: Kind, subject: str) -> Permit:
        return Permit(kind, subject, dt.datetime.now(dt.UTC))

    def leave(self, permit: Permit, outcome: Outcome, retry_after: float = 0.0) -> Reaction:
        return "none"

    def access(self) -> Access | None:
        return self._access

    def renew_access(self, refused: Access | None, fetch: Callable[[], Access]) -> Access:
        self._access = fetch()
        return self._access
