"""Findings: what a person must do something about, or must know of to use the stored bars rightly.

Each is {ticker, kind, gravity, finding}; `KINDS` is the table of the kinds, with what they mean. What is as it should
be, or settles by itself, is no finding: it is counted as routine, and told under what changed.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Finding = dict[str, Any]

GRAVITIES = {1: "wrong as served", 2: "doubtful, or lacking", 3: "good to know"}

MOST_DAYS = 10
# As long as an outage is asked for (database.gaps): what it has lost comes by itself.
_SOON = dt.timedelta(days=14)


@dataclass(frozen=True)
class Kind:
    """How grave findings of a kind are, from 1, the gravest, to 3; and what they mean and what to do."""

    gravity: int
    words: str


KINDS = {
    "split missing": Kind(
        1,
        "Prices jump as at a split, and none is told. Adjusted prices are wrong across it until the source tells one; "
        "every seventh day the whole history is asked for, at once with --full.",
    ),
    "wrong unit": Kind(
        1, "Prices are a power of ten off those around them. See the chart, and compare with another source."
    ),
    "unit in doubt": Kind(
        1, "Prices change by a power of ten and stay there, and nothing tells which of the two units is right."
    ),
    "split still in prices": Kind(
        1,
        "A split is on record, and the prices before it are not divided by it. Yahoo is often days late; if it stays, "
        "use repaired=True, or do without the bars before it.",
    ),
    "prices divided twice": Kind(
        1,
        "A split is on record, and the prices before it are divided by it twice. repaired=True has them as they were.",
    ),
    "split listed twice": Kind(
        1, "The same split stands on two sessions. As-traded prices, which multiply by both, are wrong before them."
    ),
    "dividend of the wrong size": Kind(
        1, "A dividend is a power of ten apart from what the ticker's others, or the adjusted close, say of it."
    ),
    "dividend not divided by a split": Kind(
        1, "A dividend is per share as it was then, while the prices are divided by a later split."
    ),
    "dividend listed twice": Kind(1, "The same dividend within a week. Sums of dividends count it twice."),
    "dividend too large": Kind(
        1,
        "A dividend is a large part of the price, which did not fall by it. Yields and total returns are wrong there.",
    ),
    "dividend not adjusted for": Kind(
        1, "Adjusted close does not step at a dividend: returns from it lack the dividend, or there was none."
    ),
    "dividend and adjusted close disagree": Kind(
        1, "Adjusted close steps by another amount than the dividend's. One of the two is wrong."
    ),
    "adjusted close steps without a dividend": Kind(
        1,
        "Adjusted close steps and no dividend is told: one is missing, or returns by adjusted close are wrong there.",
    ),
    "adjusted close above close": Kind(1, "No dividend makes adjusted close larger than close. Do not use it there."),
    "adjusted close missing": Kind(
        2, "Adjusted close is NULL for some of the bars. Prices adjusted for dividends are refused, or NULL, there."
    ),
    "adjusted close lost": Kind(
        1,
        "The adjusted close as served cannot be one: it is NULL. Prices adjusted for dividends are refused, or NULL, "
        "up to there; those adjusted for splits alone are right.",
    ),
    "session missing": Kind(
        2, "The exchange had a session, and the source has sent no bar of it. It is asked for again by itself."
    ),
    "outage": Kind(
        2, "The source has lost a session of many securities. It is asked for again in every run of two weeks."
    ),
    "sent no more": Kind(
        2, "Stored bars that the answer does not have. They stay. If a price looks odd there, doubt it."
    ),
    "withdrawn": Kind(
        2,
        "A split or dividend has moved all other bars, and these were not sent: they are in ohlcv_revisions, and no "
        "longer in ohlcv.",
    ),
    "restated": Kind(
        2,
        "The source has changed bars, and no split or dividend tells why. The view ohlcv_changes has old and new.",
    ),
    "ends early": Kind(2, "The source says that it traded after its last bar. A later run asks for what is missing."),
    "behind": Kind(2, "Others of its exchange have newer bars. If it stays: is it delisted, halted, or renamed?"),
    "stale bars": Kind(2, "The same bar day after day: not traded, or not updated. Returns are 0 there."),
    "leap and back": Kind(2, "A price leaps and comes back at the next bars, which a wrong one does, too."),
    "move without volume": Kind(2, "The price moved and nothing was traded. Do not take it for one that could be had."),
    "high or low far off": Kind(
        2, "High or low is four times away from open and close, as one is that has slipped a digit. Close is not."
    ),
    "volume not known": Kind(3, "The source has the bar and not its volume, which is NULL."),
    "answer before the close": Kind(
        2, "The answer's own time is before the close, so its last bar is none yet and is left out. Run again later."
    ),
    "columns lacking": Kind(
        2, "The answer lacks a whole column. Prices adjusted by it are refused, or NULL, until an answer has it."
    ),
    "actions gone": Kind(
        2,
        "Dividends or splits that the source had told, and tells no more. Adjusted prices have changed with them: the "
        "view ohlcv_changes has old and new.",
    ),
    "waiting": Kind(
        3,
        "The newest bar breaks a rule, as many do until the source has settled them. Its close can be used if "
        "it is stored; what is broken is NULL. A later run brings the rest, or puts the bar into quarantine.",
    ),
    "session missing for good": Kind(
        3,
        "The source was asked for the session again, and has none: not traded, or lost. It is not asked for any more.",
    ),
    "outage for good": Kind(3, "The source has lost a session of many securities for good. Other sources have it."),
    "came late": Kind(
        3, "Sessions came weeks after they were over. What was worked out in between was worked out without them."
    ),
    "off calendar": Kind(
        3, "A bar without volume, or beside a missing session, on a day on which the exchange is closed: doubt it."
    ),
    "no calendar": Kind(
        3, "No calendar of the exchange is known. Missing sessions do not show, only that a ticker ends before others."
    ),
    "dividend in another currency": Kind(
        3, "The dividend is not in the currency of the prices, and stands as it was told, with dividend_currency."
    ),
    "action without a bar": Kind(
        3, "A split or dividend of a day without a stored bar. It counts in adjustments, from actions_without_bar."
    ),
    "company data kept": Kind(3, "The answer about the company was poorer than what is stored, which stays."),
}
"""All kinds but those of a user's own rules, which are named by the rule: see `of_rule`."""

_RULES = {
    "no split is missing": "split missing",
    "prices are in the unit of those around": "wrong unit",
    "the unit of prices does not change": "unit in doubt",
    "prices are divided by splits on record": "split still in prices",
    "prices are divided once by splits on record": "prices divided twice",
    "a split is on record once": "split listed twice",
    "dividends are not 10, 100, 1000 times too large or small": "dividend of the wrong size",
    "dividends are adjusted for later splits": "dividend not divided by a split",
    "a dividend is on record once": "dividend listed twice",
    "dividends are no large part of a price that does not fall": "dividend too large",
    "adjusted close steps at dividends": "dividend not adjusted for",
    "adjusted close steps by the dividend": "dividend and adjusted close disagree",
    "adjusted close steps at dividends only": "adjusted close steps without a dividend",
    "dividends are in the currency of the prices": "dividend in another currency",
    "adjusted close is not above close": "adjusted close above close",
    "adjusted close is known for all bars, or for none": "adjusted close missing",
    "adjusted close, where known, is above 0 and finite": "adjusted close lost",
    "bars are not the same day after day": "stale bars",
    "price does not leap and come back": "leap and back",
    "price moves only with volume": "move without volume",
    "high and low are near open and close": "high or low far off",
    "volume is known": "volume not known",
}
_GRAVE_WORDS = ("split", "dividend", "unit", "adjusted close", "adjustment", "capital gain", "corporate action")
"""In the words of a rule about corporate actions or units: what breaks it makes whole stretches of prices wrong."""

_FOREIGN = "dividend in another currency"
_SEVERITIES = {"critical": 1, "warning": 2, "info": 3}
_RULE_WORDS = "Bars that break this rule of the suite, and are stored all the same. Look at them before you use them."
_MENDED_WORDS = "The source contradicts itself, and one solution is consistent: prices(…, repaired=True) has it."


def of_rule(rule: str) -> str:
    """The kind of what breaks that rule of the suite."""
    return _RULES.get(rule, f"against '{rule}'")


def gravity_of(rule: str, severity: str) -> int:
    """Of bars that break the rule and stay valid: its kind's, or 1 for actions and units, or by severity."""
    if rule in _RULES:
        return KINDS[_RULES[rule]].gravity
    # Who marks a rule as information has looked at it.
    if severity != "info" and any(word in rule.lower() for word in _GRAVE_WORDS):
        return 1
    return _SEVERITIES.get(severity, 2)


def finding(ticker: str, kind: str, words: str, **more: Any) -> Finding:
    """One of a kind of `KINDS`. `tickers`, of one that stands for several: how many they are."""
    return {"ticker": ticker, "kind": kind, "gravity": KINDS[kind].gravity, "finding": words, **more}


def ordered(found: Iterable[Finding]) -> list[Finding]:
    """The gravest first, then by kind and ticker; none twice."""
    once = {(each["gravity"], each["kind"], each["ticker"], each["finding"]): each for each in found}
    return [once[key] for key in sorted(once)]


def by_kind(found: Iterable[Finding]) -> list[dict[str, Any]]:
    """[{kind, gravity, count, tickers: how many, words}], the gravest first.

    Also of findings of a report from before there were kinds.
    """
    groups: dict[str, list[Finding]] = defaultdict(list)
    for each in found:
        groups[each.get("kind", "other")].append(each)
    counted = [
        {
            "kind": kind,
            "gravity": min(each.get("gravity", 2) for each in group),
            "count": len(group),
            "tickers": len({each["ticker"] for each in group if "tickers" not in each})
            + sum(each.get("tickers", 0) for each in group),
            "words": _words(kind, group),
        }
        for kind, group in groups.items()
    ]
    return sorted(counted, key=lambda group: (group["gravity"], group["kind"]))


def _words(kind: str, group: Sequence[Finding]) -> str:
    if kind in KINDS:
        return KINDS[kind].words
    if not kind.startswith("against "):
        return ""
    return _MENDED_WORDS if any(each.get("repaired") for each in group) else _RULE_WORDS


def of_ticker(
    ticker: str, detail: Mapping[str, Any], as_of: dt.date, mended: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Finding]:
    """What is worth a look at a ticker, by what its steps have noted of it.

    `mended` is {rule: {values, bars, first, last, evidence}} of the repairs that hold; None: those that were noted.
    """
    mended = repairs(detail) if mended is None else mended
    flagged = detail.get("flagged") or []
    # Noted by the suite and with the stored dividends: what has more to say of them is told.
    if any(of_rule(rule) == _FOREIGN for rule in mended):
        detail = {name: noted for name, noted in detail.items() if name != "foreign_dividends"}
    elif detail.get("foreign_dividends"):
        flagged = [flag for flag in flagged if of_rule(flag["rule"]) != _FOREIGN]
    found = [finding(ticker, kind, words) for kind, words in _of_sessions(detail, as_of)]
    found += [finding(ticker, kind, words) for kind, words in _of_answer(detail)]
    return found + _of_rules(ticker, flagged, mended)


def routine(detail: Mapping[str, Any], as_of: dt.date) -> dict[str, int]:
    """How much of a ticker was as it should be, and is told under what changed: sessions or bars, of each sort."""
    counts = {
        "refilled": len(_came(detail, as_of, soon=True)),
        "unfinished": int(bool(detail.get("unfinished")) and not detail.get("stale_answer")),
        "special": len(detail.get("special") or []),
    }
    return {name: count for name, count in counts.items() if count}


def _came(detail: Mapping[str, Any], as_of: dt.date, *, soon: bool) -> list[str]:
    return [day for day in detail.get("refilled") or [] if (as_of - dt.date.fromisoformat(day) <= _SOON) is soon]


def _of_sessions(detail: Mapping[str, Any], as_of: dt.date) -> Iterable[tuple[str, str]]:
    """(kind, words): which sessions came, came late, or did not."""
    # That the unfinished session is left out, or not there yet, is no news of a history.
    if detail.get("ends_early") and not detail.get("calendar") and not detail.get("unfinished"):
        yield "ends early", str(detail["ends_early"])
    for name, kind, words in (
        ("missing", "sent no more", "not in the answer any more"),
        ("withdrawn", "withdrawn", "withdrawn, since a split or dividend moved the others, and not sent"),
    ):
        if days := detail.get(name):
            are = "is" if len(days) == 1 else "are"
            yield kind, f"{counted(len(days), 'stored session')} {are} {words}: {some(days)}"
    special = set(detail.get("special") or [])
    if closed := [day for day in detail.get("off_calendar") or [] if day not in special]:
        where = detail.get("calendar", "the exchange")
        yield "off calendar", f"{counted(len(closed), 'bar')} of days on which {where} is closed: {some(closed)}"
    if late := _came(detail, as_of, soon=False):
        yield "came late", f"{counted(len(late), 'session')} that had been missing came: {some(late)}"
    if detail.get("restated"):
        count, (first, last) = (detail.get("revised") or {}).get("restatement", 0), detail["restated"]
        bars, were = counted(count, "bar"), "was" if count == 1 else "were"
        yield "restated", f"{bars} from {first} to {last} {were} changed by the source, not by a split or dividend"


def _of_answer(detail: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """(kind, words): what is odd about an answer as a whole, its newest bar, its actions and its company data."""
    if stale := detail.get("stale_answer"):
        # Noted as its time alone, it is about the session that is left out.
        noted = stale if isinstance(stale, Mapping) else {"date": detail.get("unfinished"), "market_time": stale}
        day, until = str(noted.get("date") or "its session"), detail.get("open_until")
        again = f"a run after {_clock(until, day)} asks again" if until else "a later run asks again"
        told = f"the answer of Yahoo was of {_clock(noted.get('market_time'), day)}"
        yield "answer before the close", f"{told}, before the close of {day}; {again}"
    for each in detail.get("waiting") or []:
        rules = each.get("rules") or []
        named = rules if isinstance(rules, str) else "; ".join(map(str, rules))
        not_yet = ", and is not stored until then" if each.get("stored") is False else ""
        yield (
            "waiting",
            f"the bar of {each.get('date')} waits for the source to settle it{not_yet}: it breaks '{named}'",
        )
    if lacks := detail.get("lacks"):
        yield "columns lacking", f"the answer has no {', '.join(map(str, lacks))}"
    if gone := detail.get("vanished_actions"):
        words = "action is" if len(gone) == 1 else "actions are"
        yield "actions gone", f"{len(gone)} {words} not in the answer any more: {some(map(_action, gone))}"
    if foreign := detail.get("foreign_dividends"):
        words = f"{counted(len(foreign), 'dividend')} in another currency than the prices"
        yield _FOREIGN, f"{words}: {some(map(_action, foreign))}"
    if apart := detail.get("actions_without_bar"):
        words = f"{counted(len(apart), 'action')} of days without a bar"
        yield "action without a bar", f"{words}: {some(map(_action, apart))}"
    if kept := detail.get("kept_company"):
        yield "company data kept", f"the answer was poorer than what is stored, which stays{_poorer(kept)}"


def _of_rules(
    ticker: str, flagged: Sequence[Mapping[str, Any]], mended: Mapping[str, Mapping[str, Any]]
) -> list[Finding]:
    """One a rule, which its kind names: what breaks it, and what of that is mended."""
    days: dict[str, list[str]] = defaultdict(list)
    severities: dict[str, str] = {}
    for flag in flagged:
        days[flag["rule"]].append(flag["date"] or "all")
        severities[flag["rule"]] = flag.get("severity", "warning")
    found = []
    for rule in dict.fromkeys((*days, *mended)):
        words = []
        if broken := days.get(rule):
            words.append(f"{counted(len(broken), 'bar')}: {some(broken)}")
        if repair := mended.get(rule):
            words.append(f"repaired=True gives {values_of(repair)} mended: {repair['evidence']}")
        # Where there is one solution, what is served contradicts itself.
        gravity = 1 if repair else gravity_of(rule, severities[rule])
        each = {"ticker": ticker, "kind": of_rule(rule), "gravity": gravity, "finding": "; ".join(words)}
        found.append(each | ({"repaired": True} if repair else {}))
    return found


def repairs(detail: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{rule: {values, bars, first, last, evidence}} of what a step has noted as repaired, by value or summed up."""
    noted = detail.get("repairs") or {}
    if isinstance(noted, Mapping):
        return {rule: _REPAIR | dict(repair) for rule, repair in noted.items()}
    rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for repair in noted:
        rows[repair["rule"]].append(repair)
    return {
        rule: {
            "values": len(group),
            "bars": len({row["date"] for row in group}),
            "first": min(str(row["date"]) for row in group),
            "last": max(str(row["date"]) for row in group),
            "evidence": max(group, key=lambda row: str(row["date"])).get("evidence", ""),
        }
        for rule, group in rows.items()
    }


_REPAIR: dict[str, Any] = {"values": 0, "bars": 0, "first": "", "last": "", "evidence": ""}


def values_of(repair: Mapping[str, Any]) -> str:
    """8 values of 2 bars from 2024-03-14 to 2024-03-15."""
    when = (
        f"of {repair['first']}" if repair["first"] == repair["last"] else f"from {repair['first']} to {repair['last']}"
    )
    return f"{counted(repair['values'], 'value')} of {counted(repair['bars'], 'bar')} {when}"


def _action(action: Any) -> str:
    """A corporate action in words, whether it was noted as its day alone or with what it was."""
    if not isinstance(action, Mapping):
        return str(action)
    kind = str(action.get("kind") or "").replace("_", " ")
    parts = [action.get("date"), kind, action.get("amount"), action.get("currency")]
    return " ".join(str(part) for part in parts if part not in (None, ""))


def _poorer(kept: Any) -> str:
    """What an answer about the company lacks, as far as it was noted."""
    if isinstance(kept, Mapping):
        lacks = ", ".join(name.replace("_", " ") for name in kept.get("lacks") or [])
        parts = (f"as of {kept['as_of']}" if kept.get("as_of") else "", f"the answer lacks {lacks}" if lacks else "")
        kept = "; ".join(part for part in parts if part)
    return f" ({kept})" if kept and isinstance(kept, str) else ""


def _clock(moment: Any, day: str) -> str:
    """An ISO instant as time of day in UTC, with its date if that is not `day`; a text that is none, as it is."""
    try:
        at = dt.datetime.fromisoformat(str(moment))
    except ValueError:
        return str(moment or "")
    if at.tzinfo is None:
        return str(moment)
    at = at.astimezone(dt.UTC)
    return f"{at:%H:%M} UTC" if str(at.date()) == day else f"{at:%Y-%m-%d %H:%M} UTC"


def counted(number: int, what: str) -> str:
    """1 bar, 1,234 bars."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def some(items: Iterable[Any]) -> str:
    """The first ten of them."""
    every = list(map(str, items))
    return ", ".join(every[:MOST_DAYS]) + (", …" if len(every) > MOST_DAYS else "")


def last_word(details: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """What the steps of one ticker have noted, as one; where two have noted the same, the later one's."""
    noted: dict[str, Any] = {}
    for detail in details:
        noted |= {name: value for name, value in detail.items() if value or name not in noted}
    return noted
