"use strict";
// Charts in the page's own colours, which follow the system's from light to dark.
const dark = matchMedia("(prefers-color-scheme: dark)");
const figures = JSON.parse(document.getElementById("figures")?.textContent ?? "{}");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const text = style.getPropertyValue("--text").trim();
  const line = style.getPropertyValue("--line").trim();
  const change = { "font.color": text, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  for (const axis of ["xaxis", "yaxis"]) {
    change[`${axis}.gridcolor`] = line;
    change[`${axis}.linecolor`] = line;
    change[`${axis}.zerolinecolor`] = line;
  }
  return change;
}

async function draw(place) {
  const figure = figures[place.id];
  await Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: "hover" });
  await Plotly.relayout(place, colours());
  place.dataset.drawn = "yes";
}

// A chart is drawn when it comes into view: a heat map of thousands of tickers takes a moment. Its room is kept until
// then, or what somebody has scrolled to would be pushed away.
const watch = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) { watch.unobserve(target); draw(target); }
  }
}, { rootMargin: "300px" });
for (const place of document.querySelectorAll(".chart")) {
  place.style.minHeight = `${figures[place.id].layout.height}px`;
  watch.observe(place);
}
dark.addEventListener("change", () => {
  for (const place of document.querySelectorAll(".chart[data-drawn]")) Plotly.relayout(place, colours());
});

// The tickers: sorted by a column, searched, and by state.
const table = document.getElementById("tickers");
if (table) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, text: row.textContent.toLowerCase(), state: row.dataset.state }));
  const search = document.getElementById("search");
  const state = document.getElementById("state");
  const shown = document.getElementById("shown");

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const each of rows) {
      each.row.hidden = !(each.text.includes(wanted) && (!state.value || each.state === state.value));
      count += !each.row.hidden;
    }
    shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} tickers`;
  }

  function sort(header) {
    const column = header.cellIndex;
    const number = header.classList.contains("n");
    const down = header.ariaSort === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = ({ row }) => {
      const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      return number ? Number(text.replaceAll(",", "") || -1) : text;
    };
    const order = number ? (a, b) => a.value - b.value : (a, b) => a.value.localeCompare(b.value, "en");
    const keyed = rows.map((each) => ({ each, value: value(each) })).sort(order);
    if (down) keyed.reverse();
    body.append(...keyed.map(({ each }) => each.row));
  }

  // A link to a ticker, as luigid's page has them: report.html#ticker=AAPL.
  function find() {
    const wanted = new URLSearchParams(location.hash.slice(1)).get("ticker");
    if (wanted === null) return;
    search.value = wanted;
    state.value = "";
    filter();
    for (const { row } of rows) row.classList.toggle("found", row.cells[0].textContent === wanted);
    (table.querySelector(".found") ?? search).scrollIntoView({ block: "center" });
  }

  search.addEventListener("input", filter);
  state.addEventListener("change", filter);
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button")?.addEventListener("click", () => sort(header));
  }
  addEventListener("hashchange", find);
  filter();
  find();
}
