"""The page in a browser: it opens without a complaint, asks nobody for anything, and does what its controls say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
from playwright.sync_api import Browser, Page

from luigi_tasks.report import charts, render
from tests.report.documents import of_text, repaired, told, with_charts

MANY = 5000

Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a document; at the end, nothing was complained of and nothing loaded."""
    complaints: list[str] = []
    requested: list[str] = []

    def open_page(document: dict[str, Any], **context: Any) -> Page:
        path = tmp_path / "report.html"
        path.write_text(render.page(document), encoding="utf-8")
        page = browser.new_page(**context)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    assert complaints == []
    assert [url for url in requested if not url.startswith(("file:", "blob:", "data:"))] == []


def shown(page: Page, column: int = 1) -> list[str]:
    """The texts of a column of the ticker table, of the rows that can be seen."""
    return page.locator(f"#tickers tbody tr:not([hidden]) td:nth-child({column})").all_inner_texts()


def draw(page: Page, chart: str) -> None:
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    page.locator(f"#{chart}[data-drawn]").wait_for()


def test_every_chart_is_drawn_when_it_comes_into_view(opened: Open) -> None:
    page = opened(with_charts(40))
    places = page.locator(".chart")

    assert places.count() == len(charts.figures(with_charts(40))) == 6
    for place in places.all():
        draw(page, str(place.get_attribute("id")))
        assert place.locator(".main-svg").count() > 0


def test_the_figures_are_such_as_plotly_knows() -> None:
    for figure in charts.figures(with_charts(3)).values():
        plotly.graph_objects.Figure(figure)


def test_a_column_is_sorted_by_a_click_and_the_other_way_by_another(opened: Open) -> None:
    page = opened(with_charts(12))
    bars = page.get_by_role("button", name="bars", exact=True)

    bars.click()
    bars.click()

    assert shown(page, 4) == [str(7 * number) for number in range(11, -1, -1)]
    assert page.locator("#tickers th[aria-sort]").all_inner_texts() == ["bars"]


def test_the_table_begins_as_it_says_sorted_by_ticker(opened: Open) -> None:
    document = with_charts(12)
    document["by_ticker"].reverse()

    page = opened(document)

    assert shown(page) == [f"T{number:05}" for number in range(12)]
    assert page.locator("#tickers th[aria-sort=ascending]").all_inner_texts() == ["ticker"]


def test_the_table_can_be_sorted_and_searched_by_keyboard_alone(opened: Open) -> None:
    page = opened(with_charts(12))

    page.locator("#search").focus()
    page.keyboard.type("no answer")
    assert shown(page) == ["T00001"]
    assert page.locator("#shown").inner_text() == "1 of 12 tickers"
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert shown(page) == [f"T{number:05}" for number in range(11, -1, -1)]


def test_the_tickers_of_one_state_can_be_seen_alone(opened: Open) -> None:
    page = opened(with_charts(12))

    page.locator("#state").select_option("failed")

    assert shown(page, 2) == ["failed"]


@pytest.mark.parametrize("name", ["T00003", "T0", "A/B+C&D #1", "^X"])
def test_a_link_to_a_ticker_finds_its_row(opened: Open, name: str) -> None:
    document = with_charts(MANY)
    document["by_ticker"][3]["ticker"] = document["failures"][0]["ticker"] = name
    page = opened(document)

    page.locator("#failed").get_by_role("link", name=name, exact=True).click()

    found = page.locator("#tickers tr.found")
    assert found.locator("td").first.inner_text() == name
    assert found.evaluate(
        "row => { const at = row.getBoundingClientRect(); return at.top >= 0 && at.bottom <= innerHeight }"
    )
    assert page.locator("#search").input_value() == name
    assert name in shown(page)


def test_a_link_to_a_ticker_that_is_none_says_that_there_is_none(opened: Open) -> None:
    page = opened(with_charts(12))

    page.goto(f"{page.url}#ticker=NONE")

    assert page.locator("#shown").inner_text() == "0 of 12 tickers"


def test_five_thousand_tickers_are_sorted_and_searched_too(opened: Open) -> None:
    page = opened(with_charts(MANY, months=120))
    draw(page, "chart-coverage")

    page.get_by_role("button", name="bars", exact=True).click()
    page.get_by_role("button", name="bars", exact=True).click()
    page.locator("#search").fill("t0499")

    assert shown(page) == [f"T{number:05}" for number in range(4999, 4989, -1)]
    assert page.locator("#shown").inner_text() == "10 of 5,000 tickers"


@pytest.mark.parametrize("width", [360, 768])
def test_on_a_phone_nothing_hangs_out(opened: Open, width: int) -> None:
    database = f"postgresql://postgres@/securities?host={'%2Ffolder' * 12}"
    page = opened(with_charts(12) | {"database": database}, viewport={"width": width, "height": 740})
    draw(page, "chart-coverage")

    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_and_charts_have_the_colours_of_the_system(opened: Open, scheme: str) -> None:
    page = opened(with_charts(12), color_scheme=scheme)
    draw(page, "chart-coverage")

    def brightness(script: str) -> float:
        red, green, blue = page.evaluate(f"({script}).match(/[0-9.]+/g).slice(0, 3).map(Number)")
        return float(red + green + blue) / 765

    paper = brightness("getComputedStyle(document.body).backgroundColor")
    text = brightness("getComputedStyle(document.querySelector('#chart-coverage .ytick text')).fill")
    assert (paper > 0.8 and text < 0.3) if scheme == "light" else (paper < 0.3 and text > 0.8)


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</style><script>alert(1)</script>"]
)
def test_hostile_text_does_nothing(opened: Open, text: str) -> None:
    page = opened(of_text(text) | {key: with_charts(3)[key] for key in ("coverage", "freshness", "history")})
    draw(page, "chart-repaired-0")

    assert page.locator("#tickers tbody td").first.inner_text() == text


def test_what_was_repaired_is_drawn_as_served_and_repaired(opened: Open) -> None:
    page = opened(with_charts(3) | {"repaired": [repaired(f"T{number}", "x", 500) for number in range(12)]})
    draw(page, "chart-repaired-11")

    place = page.locator("#chart-repaired-11")
    assert place.get_attribute("aria-label") == "T11: close as served and repaired"
    assert place.locator(".legendtext").all_text_contents() == ["as served", "repaired"]
    assert page.get_by_role("link", name="Repaired").get_attribute("href") == "#repaired"
    assert "60 values of 15 bars from 2023-01-02 to" in page.locator("#repaired li").last.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_was_repaired_can_be_read_on_a_phone_by_day_and_night(opened: Open, scheme: str) -> None:
    text = "a_rule_without_a_space_" * 20
    found = [{"ticker": "T00000", "kind": f"against '{text}'", "gravity": 1, "finding": text}]
    document = with_charts(12) | {"repaired": [repaired("T00000", text)]} | told(found)
    page = opened(document, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    draw(page, "chart-repaired-0")

    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for place in ("#kinds", "#findings"):
        hidden = "place => document.querySelector(place).parentElement.scrollWidth"
        assert page.evaluate(hidden, place) <= 360, "read without moving it aside"
    fill = page.evaluate("getComputedStyle(document.querySelector('#chart-repaired-0 .ytick text')).fill")
    light = sum(map(float, re.findall(r"[0-9.]+", fill)[:3])) / 765
    assert light < 0.3 if scheme == "light" else light > 0.8


@pytest.mark.parametrize("served", [[None, 400.0], [-1.0, 0.0], [None, None]])
def test_a_chart_is_drawn_of_values_that_no_logarithm_has(opened: Open, served: list[float | None]) -> None:
    item = repaired("T0", "x", 2) | {"served": served}

    page = opened(with_charts(3) | {"repaired": [item]})

    draw(page, "chart-repaired-0")


def test_hostile_text_in_a_chart_does_nothing(opened: Open) -> None:
    document = with_charts(3)
    document["coverage"]["tickers"][0] = "</script><script>alert(1)</script>"
    page = opened(document)

    draw(page, "chart-coverage")

    assert "</script>" in page.locator("#chart-coverage").inner_text()
