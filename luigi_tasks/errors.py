"""Every failure this project can name, typed by what to do about it.

A message always says three things: what it is about, why it failed, and what helps. `kind` is the word stored
in `task_failures.kind` and grouped by in the report. The arguments are kept as they are, so that an instance
survives pickling between Luigi's processes.
"""

from __future__ import annotations

from typing import ClassVar


class SecuritiesMasterError(Exception):
    """A failure with a subject, a reason and a remedy; shown to people as one line, without a traceback."""

    kind: ClassVar[str] = "error"

    def __init__(self, subject: str, reason: str, remedy: str = "") -> None:
        super().__init__(subject, reason, remedy)
        self.subject, self.reason, self.remedy = subject, reason, remedy

    def __str__(self) -> str:
        sentence = f"{self.subject}: {self.reason}"
        return f"{sentence}. {self.remedy}" if self.remedy else sentence


class TransientError(SecuritiesMasterError):
    """Worth trying again shortly, as it is: the task does so by itself."""


class TerminalError(SecuritiesMasterError):
    """Trying again would give the same answer: somebody or something has to change first."""


# -- the provider


class Throttled(TransientError):
    """The provider asked us to slow down (HTTP 429)."""

    kind = "throttled"


class ProviderDown(TransientError):
    """The provider answered with an error of its own: 5xx, an HTML page, a blank or cut answer."""

    kind = "provider_down"


class NetworkFailure(TransientError):
    """No answer at all: name resolution, refused, reset, time-out, TLS, proxy."""

    kind = "network"


class AuthorisationFailure(TransientError):
    """The provider refused our cookie or crumb (401, 403); a new session usually helps."""

    kind = "authorisation"


class CredentialsRefused(AuthorisationFailure):
    """The provider refuses everybody's cookie or crumb, new ones too, which is its way to throttle; all pause."""


class AnswerNotUnderstood(TransientError):
    """An answer that parses but is not what was asked for: another ticker, a missing field, an unknown error."""

    kind = "answer_not_understood"


class SourceUnreachable(TerminalError):
    """The source as a whole is out of reach, so that no ticker is worth trying in this run."""

    kind = "source_unreachable"


class PatienceExhausted(TerminalError):
    """The provider kept everybody waiting for longer than the run's patience; the rest of the run is not tried."""


class ThrottledTooLong(PatienceExhausted):
    """The provider throttled everybody for longer than the run's patience."""

    kind = "throttled"


class DownTooLong(PatienceExhausted):
    """The provider, or the network, was down for longer than the run's patience."""

    kind = "outage"


class RefusedAltogether(ThrottledTooLong):
    """The provider refuses every request of a kind while it answers those of other kinds."""


class RefusedAlone(TerminalError):
    """The provider refuses one question again and again (429), and answers others: it is a matter of that question."""

    kind = "refused_alone"


class SecondRequest(TerminalError):
    """yfinance has sent more than the one request that a question needs: it is not the yfinance that we know."""

    kind = "yfinance_moved"


class NoSuchTicker(TerminalError):
    """The provider itself said that it has no such ticker (or has it no more)."""

    kind = "no_such_ticker"


class Delisted(TerminalError):
    """The provider itself said that it has the ticker no more; we have bars of it."""

    kind = "delisted"


class NoBars(TerminalError):
    """The ticker exists, and the provider said that it has no bars in the range asked for."""

    kind = "no_bars"


class WrongAnswer(TerminalError):
    """An answer of other bars than were asked for: not of daily ones, or of another security than the stored one."""

    kind = "wrong_answer"


# -- data and stores


class InvalidData(TerminalError):
    """Bars that must not be stored; they are in quarantine with the rules they broke."""

    kind = "data_invalid"


class IdenticalSeries(TerminalError):
    """The bars are those of another ticker, to the last digit."""

    kind = "identical_series"


class HistoryShrank(TerminalError):
    """The answer lacks sessions or actions that are stored: it is incomplete, and no replacement for what is there."""

    kind = "history_shrank"


class OutdatedDownload(TerminalError):
    """Bars that were downloaded to go on from a history that is another one by now; another download would fit."""

    kind = "outdated_download"


class RestatedSince(TerminalError):
    """Bars as of an earlier date than the stored ones, which they contradict."""

    kind = "restated_since"


class SecurityNotFound(TerminalError):
    """A ticker that is not registered in the database."""

    kind = "security_not_found"


class AdjustmentUnknown(TerminalError):
    """Prices were asked for adjusted for dividends, which their source does not say."""

    kind = "adjustment_unknown"


class DatabaseUnavailable(TransientError):
    """PostgreSQL does not answer, or broke off (connection lost, deadlock, shutting down)."""

    kind = "database_unavailable"


class DatabaseRefused(TerminalError):
    """PostgreSQL answered and said no: a constraint, a missing table, a permission, a full disk."""

    kind = "database_refused"


class StoreUnwritable(TerminalError):
    """A file could not be written or read: disk full, no permission, not a folder."""

    kind = "store_unwritable"


# -- the run


class ConfigurationError(TerminalError):
    """A setting, a parameter or a configuration file that cannot be used as it is."""

    kind = "configuration"


class AnotherRun(TerminalError):
    """Another run is going on where this one wants to."""

    kind = "another_run"


class ServiceFailure(TerminalError):
    """The embedded PostgreSQL or luigid could not be started or found."""

    kind = "service"


class StepFailed(TerminalError):
    """A task has failed since a step within it has; why is on record with that step, and told."""

    kind = "step_failed"
