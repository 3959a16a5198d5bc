"""What Great Expectations' pages lack, put in by the way that it has for that: a renderer named in a site's settings.

Only for Great Expectations to import, by name. Its index is a table that scripts from the network draw; ours stands in
the page. Its page of a result names the data only where that is a file or a table of a database.
"""

from __future__ import annotations

import html
from typing import Any

from great_expectations.render.components import RenderedDocumentContent, RenderedTableContent
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.renderer.site_index_page_renderer import SiteIndexPageRenderer


class IndexRenderer(SiteIndexPageRenderer):
    """The index, with a plain table of the tickers before Great Expectations' own."""

    def __init__(self, findings: dict[str, dict[str, int]], **_: Any) -> None:
        """`findings` are {name of the data, as HTML: {rule: rows that broke it}}, in the order to show."""
        super().__init__()
        self._findings = findings

    def render(self, index_links_dict: dict[str, Any]) -> RenderedDocumentContent:  # type: ignore[override]
        links = {link["asset_name"]: link["filepath"] for link in index_links_dict.get("validations_links", [])}
        rows = [
            [f'<a href="{links[name]}">{name}</a>', html.escape(_in_words(findings))]
            for name, findings in self._findings.items()
            if name in links
        ]
        document: RenderedDocumentContent = super().render(index_links_dict)
        table = RenderedTableContent(
            header="Tickers",
            header_row=["Ticker", "Rules that were not met"],
            table=rows,
            styling={"classes": ["col-12"], "body": {"classes": ["table", "table-sm"]}},
        )
        document.sections[0].content_blocks.insert(1, table)
        return document


class TickerRenderer(ValidationResultsPageRenderer):
    """The page of a validation result, named by its ticker."""

    def render(self, validation_results: Any, suite_parameters: Any = None) -> Any:
        # In the heading Great Expectations escapes it, in the title it does not.
        name = html.unescape(validation_results.asset_name)
        validation_results.meta["batch_spec"]["data_asset_name"] = name
        document = super().render(validation_results, suite_parameters)
        document.page_title = html.escape(document.page_title)
        return document


def _in_words(findings: dict[str, int]) -> str:
    return (
        "; ".join(f"{rule}: {rows} bars" if rows != 1 else f"{rule}: 1 bar" for rule, rows in findings.items())
        or "none"
    )
