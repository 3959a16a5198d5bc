"""Somebody is told: of a run that failed, could not begin, or did not come about, as a message to a webhook.

The message is the JSON `{"text": …}` that Slack has made a custom; Mattermost, Rocket.Chat and many relays take it too.
"""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from luigi_tasks import retry, settings
from luigi_tasks.errors import (
    ConfigurationError,
    NetworkFailure,
    ProviderDown,
    SecuritiesMasterError,
)
from luigi_tasks.report.findings import counted
from luigi_tasks.report.render import bars_of, headline, kinds_of
from luigi_tasks.settings import Secret

logger = logging.getLogger(__name__)

_SECONDS = 5.0
_ATTEMPTS = 2
_WAIT_SECONDS = 1.0
_PASSING = (408, 429)

# Together they keep a message below 4,000 characters, which is what Slack advises and Mattermost takes.
_KINDS = 6
_TICKERS = 8
_LONGEST = 250


def prepare() -> None:
    """To be called when a run begins: whether alerts can be sent as settings want it.

    Raises:
        ConfigurationError: see `settings.alerting`.
    """
    if settings.alerting().webhook is not None:
        # The run is told of at the interpreter's end, when this cannot be loaded any more.
        import curl_cffi.requests  # noqa: F401


def tell(text: str, *, failure: bool = True) -> None:
    """Send the message if settings want it: one of a `failure`, or of what nobody has to look at.

    A webhook out of reach costs some seconds and a line in the log.
    """
    try:
        chosen = settings.alerting()
        if chosen.webhook is not None and (chosen.failures if failure else chosen.successes):
            send(chosen.webhook, text)
    except SecuritiesMasterError as error:
        logger.warning("nobody was told how it went: %s", error)


def send(webhook: Secret, text: str) -> None:
    """Send the message, within 11 s.

    Raises:
        ConfigurationError: the webhook answered that it does not take it.
        NetworkFailure, ProviderDown: it gave no answer, or an error of its own, twice.
    """
    retry.call(partial(_post, webhook, text), attempts=_ATTEMPTS, first_wait=_WAIT_SECONDS, longest_wait=_WAIT_SECONDS)


def _post(webhook: Secret, text: str) -> None:
    # Not urllib: its time-out is one of each step, and does not cover a name server that does not answer.
    from curl_cffi import requests

    try:
        answer = requests.post(webhook.text, json={"text": text}, timeout=_SECONDS, allow_redirects=False)
    except Exception as error:
        # Whatever it is, its words may hold the URL.
        raise NetworkFailure("the webhook", f"gave no answer ({type(error).__name__})", "Check the network.") from None
    if 200 <= answer.status_code < 300:
        return
    # Slack answers with a word such as no_service; a page of somebody else's may hold anything.
    word = f" {answer.text}" if re.fullmatch("[a-z_]{1,40}", answer.text) else ""
    if answer.status_code in _PASSING or answer.status_code >= 500:
        raise ProviderDown("the webhook", f"answered {answer.status_code}{word}")
    raise ConfigurationError("the webhook", f"answered {answer.status_code}{word}", "See ALERT_WEBHOOK_URL.")


def is_news(document: dict[str, Any]) -> bool:
    """Whether somebody has to hear of a run that has ended, by its report.

    Not of one that has tried all its tickers, and in which none failed but those that are known to: a ticker that fails
    for good would be an alarm every day, and nobody would look when another one joins it.
    """
    if document["outcome"] == "complete":
        return False
    every, blocked = document["tickers"]["all"], document["tickers"].get("blocked", 0)
    stopped = document["outcome"] != "incomplete" or document["gave_up"] or blocked or not every
    of_the_run = any(not failure["ticker"] for failure in document["failures"])
    return bool(stopped or of_the_run or document["changes"].get("new", True))


def ended(document: dict[str, Any], page: Path) -> str:
    """The message of a run that has ended, from its report; `page` is where that stands.

    Of what failed it names what is new, and counts what is known from before.
    """
    known = set(document["changes"].get("known", ()))
    groups = [
        group | {"tickers": new}
        for group in document["failures_by_kind"]
        if (new := [ticker for ticker in group["tickers"] if ticker not in known])
    ]
    lines = [
        _title(document["outcome"], headline(document)),
        f"{document['task']} as of {document['as_of']}, from {document['started_at']} to {document['written_at']} UTC",
    ]
    reasons = {
        failure["kind"]: failure
        for failure in reversed(document["failures"])
        if (failure["ticker"] or failure["step"]) not in known
    }
    for group in groups[:_KINDS]:
        first = reasons[group["kind"]]
        tickers = ", ".join(group["tickers"][:_TICKERS]) + (", …" if len(group["tickers"]) > _TICKERS else "")
        lines += [
            f"• *{group['kind']}* ({len(group['tickers'])}): {_outside(tickers)}",
            f"    {group['remedy']}",
            f"    {_outside(first['ticker'] or first['step'])}: {_outside(first['reason'])}",
        ]
    if more := groups[_KINDS:]:
        lines.append(f"• and {len(more)} more kinds ({sum(len(group['tickers']) for group in more)})")
    if known:
        lines.append(f"{'' if groups else 'nothing new failed; '}known from before: {counted(len(known), 'ticker')}")
    if grave := [group for group in kinds_of(document) if group["gravity"] == 1]:
        named = ", ".join(f"{group['kind']} ({group['tickers']})" for group in grave)
        lines.append(f"findings of the gravest: {_outside(named)}")
    stored = document["stored"]
    lines += [
        f"stored: {bars_of(stored)}, up to {stored['last_session']}",
        f"report: {_outside(str(page))}",
    ]
    return "\n".join(lines)


def cannot_begin(error: Exception) -> str:
    """The message of a run that has not begun."""
    known = isinstance(error, SecuritiesMasterError)
    return _title("cannot begin", str(error) if known else f"{type(error).__name__}: {error}")


def no_report(run_id: str, error: Exception) -> str:
    """The message of a run that has ended, nobody can tell how."""
    return _title("no report", f"run {run_id} has ended, and its report cannot be written: {error}")


def late(reasons: Iterable[str]) -> str:
    """The message that what should be there is not."""
    return "\n".join([_title("late", "what should be stored is not."), *(f"• {_outside(each)}" for each in reasons)])


def _title(what: str, words: str) -> str:
    return f"*Securities master on {_outside(socket.gethostname())}, {what}*: {_outside(words)}"


def _outside(text: str) -> str:
    """Text that is not ours as the message may hold it: short, one line, and no more than text.

    Slack reads &, < and > as its own; other services ring everybody for an @ with a name behind it.
    """
    line = "".join(character if character.isprintable() else " " for character in text)
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "@\N{ZERO WIDTH SPACE}")
