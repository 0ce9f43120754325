"use strict";
// Tables that sort and filter, links that open what they lead to, charts drawn when they come into view.

const sortKey = (row, column) => row.cells[column].dataset.sort;

function sort(table, column, descending) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const numeric = rows.every((row) => !Number.isNaN(Number(sortKey(row, column))));
  rows.sort((left, right) => {
    const [a, b] = [sortKey(left, column), sortKey(right, column)];
    // Missing numbers come last, whichever way the others go.
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true });
    return descending ? -order : order;
  });
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, index) => {
    if (index === column) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () =>
      sort(table, column, head.getAttribute("aria-sort") === "ascending"));
  });
  const tools = table.parentElement.previousElementSibling;
  const filter = tools.querySelector("input.filter");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    tools.querySelector(".count").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  });
}

// Evidence shows the figures of the chapters, which are in the page once.
for (const evidence of document.querySelectorAll("details.evidence")) {
  evidence.addEventListener("toggle", () => {
    for (const picture of evidence.querySelectorAll("img[data-figure]")) {
      const figure = document.getElementById(picture.dataset.figure);
      if (figure) Object.assign(picture, { src: figure.src, alt: figure.alt, hidden: false });
    }
  });
}

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const closed = target && target.closest("details:not([open])");
  if (closed) closed.open = true;
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();

const dark = matchMedia("(prefers-color-scheme: dark)");

function draw(place) {
  const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ["--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line };
  const config = { background: "transparent", axis, legend: { labelColor: ink, titleColor: ink, symbolFillColor: ink, symbolBaseStrokeColor: ink }, title: { color: ink } };
  const narrow = place.clientWidth < 500 ? { legend: { ...config.legend, orient: "bottom" } } : {};
  vegaEmbed(place, spec, { actions: false, renderer: "svg", config: { ...config, ...narrow, view: { stroke: null } } });
}

const charts = document.querySelectorAll(".chart");
const watch = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watch.unobserve(target);
    target.classList.add("drawn");
    draw(target);
  }
}, { rootMargin: "200px" });
charts.forEach((place) => watch.observe(place));
dark.addEventListener("change", () => document.querySelectorAll(".chart.drawn").forEach(draw));
addEventListener("beforeprint", () => document.querySelectorAll("main details").forEach((part) => {
  if (!part.open) part.dataset.closed = "";
  part.open = true;
}));
addEventListener("afterprint", () => document.querySelectorAll("details[data-closed]").forEach((part) => {
  part.open = false;
  delete part.dataset.closed;
}));
