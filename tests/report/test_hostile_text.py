"""Text from outside on the page and in the terminal: it is shown, and does nothing."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from luigi_tasks.report import render
from tests.report.documents import of_text as document

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ report }}",
    "{% raw %}",
    "&amp;",
    "</td></table>",
]


class Page(HTMLParser):
    """The tags of a page with their attributes, and the texts between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, Any]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        # The link to a ticker has its name, percent-encoded.
        self.tags.append((tag, [(name, unquote(value) if name == "href" else value) for name, value in attrs]))

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(max_examples=25)
@given(TEXT.filter(bool))  # A failure of no ticker links to none.
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[4])
def test_no_text_adds_a_tag_or_an_attribute(text: str) -> None:
    shown, plain = (Page(render.page(document(each))) for each in (text, "PLAIN"))

    wanted = [
        (tag, [(name, value.replace("PLAIN", text) if name == "href" else value) for name, value in attributes])
        for tag, attributes in plain.tags
    ]
    assert shown.tags == wanted


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_can_be_read_as_it_is_wherever_it_stands(text: str) -> None:
    shown, plain = (Page(render.page(document(each))).text for each in (text, "PLAIN"))

    assert shown == plain.replace("PLAIN", text)
    assert plain.count("PLAIN") >= 15


def test_the_page_asks_nobody_for_anything() -> None:
    for tag, attributes in Page(render.page(document("PLAIN"))).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form", "video", "audio")
        for name, value in attributes:
            assert name not in ("src", "srcset", "action", "style", "background")
            assert not name.startswith("on")
            assert name != "href" or value.startswith("#")
    page = render.page(document("PLAIN"))
    assert "url(" not in page
    assert "@import" not in page
    assert "://" not in page


def with_reason(text: str) -> dict[str, Any]:
    """A document in which a source and a list have said `text`."""
    plain = document("PLAIN")
    plain["failures"][0]["reason"] = text
    plain["rejected"][0] |= {"ticker": text, "reason": "is empty"}
    return plain


@pytest.mark.parametrize(
    "text", ["\x1b[2Jgone", "\x1b]0;title\x07", "\r overwritten", "\x9b2J", "two\nlines", "\u202egnp"]
)
def test_text_in_the_terminal_does_not_steer_the_terminal(text: str) -> None:
    shown, plain = (render.terminal(with_reason(each), "page.html") for each in (text, "PLAIN"))

    assert not [character for character in shown if not character.isprintable() and character != "\n"]
    assert len(shown.splitlines()) == len(plain.splitlines())


def test_the_terminal_shows_the_first_ten_and_how_many_there_are() -> None:
    many = document("AAA")
    tickers = [f"T{n:02}" for n in range(25)]
    many["failures_by_kind"][0] |= {"tickers": tickers, "count": 25}
    many["failures"] = [many["failures"][0] | {"ticker": ticker} for ticker in tickers]
    many["rejected"] = [{"ticker": f"?{ticker}", "groupings": ["a"], "reason": "bad"} for ticker in tickers]

    text = render.terminal(many, "page.html")

    assert "T09, …" in text
    assert "T10" not in text
    assert "(25)" in text
    assert "not run: 25 entries" in text


def test_a_run_that_never_began_has_a_page_and_a_summary() -> None:
    empty = document("") | {
        "tickers": {"all": 0},
        "steps": [],
        "failures": [],
        "failures_by_kind": [],
        "quarantine": [],
        "by_ticker": [],
        "rejected": [],
        "findings": [],
        "retired": [],
        "gave_up": "",
        "parameters": {},
        "outcome": "incomplete",
    }
    empty["stored"] |= {"bars": None, "tickers_with_bars": 0, "first_session": None, "last_session": None}

    assert "Nothing was run" in render.page(empty)
    assert "None" not in render.page(empty)
    assert "Nothing was run" in render.terminal(empty, "page.html")
