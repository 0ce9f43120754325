"""The report's page in a real browser: it loads nothing, tables sort, verdicts open, and all can use it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers.page_study import write
from helpers.study_fixtures import CASES, Study
from playwright.sync_api import Browser, Page, sync_playwright
from rllm_serving.report import page

CHROMIUM = shutil.which("chromium")
MAX_BYTES, MAX_S = 12e6, 3.0
# Of the paper's size: 300 servers, each started three times.
PAPER_PAIRS, PAPER_STARTS = 75, 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def study() -> Study:
    return Study(**CASES["two-engines"])


@pytest.fixture(scope="module")
def small(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    (folder / "report.html").write_text(page.render(*write(study, folder)), encoding="utf-8")
    return folder / "report.html"


def opened(browser: Browser, file: Path, width: int = 1400, scheme: str = "light") -> tuple[Page, list[str]]:
    """The page in a window, and what went wrong in it so far: console errors, exceptions, requests."""
    window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    view, wrong = window.new_page(), []
    view.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on("request", lambda request: wrong.append(request.url) if leaves(request.url, file) else None)
    view.goto(file.as_uri())
    return view, wrong


def leaves(url: str, file: Path) -> bool:
    return not url.startswith(("data:", "blob:")) and url.partition("#")[0] != file.as_uri()


def draw_charts(view: Page) -> None:
    for chart in view.query_selector_all(".chart"):
        chart.scroll_into_view_if_needed()
    view.wait_for_function(
        "[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('canvas, svg'))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_all_is_drawn_without_an_error_or_a_request_in_the_window(
    browser: Browser, small: Path, width: int, scheme: str
) -> None:
    view, wrong = opened(browser, small, width, scheme)
    draw_charts(view)
    assert wrong == []
    assert view.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_finding_of_axe(browser: Browser, small: Path, scheme: str) -> None:
    view, _ = opened(browser, small, scheme=scheme)
    draw_charts(view)
    view.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    found = Axe().run(view).response["violations"]
    assert [entry["id"] for entry in found if entry["impact"] in ("serious", "critical")] == []


def column(view: Page, head: str) -> list[str]:
    """Texts of a column of the first table that sorts, rows that are filtered out left out."""
    return view.evaluate(
        """head => {
            const table = document.querySelector("table.sortable");
            const index = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.trim() === head);
            return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[index].textContent);
        }""",
        head,
    )


def test_tables_sort_by_number_both_ways_and_filter(browser: Browser, small: Path) -> None:
    view, _ = opened(browser, small)
    button = view.locator("table.sortable").first.get_by_role("button", name="Accuracy (%)")
    button.click()
    numbers = [float(text.split()[0]) for text in column(view, "Accuracy (%)")]
    assert numbers == sorted(numbers) and len(set(numbers)) > 3
    button.click()
    assert [float(text.split()[0]) for text in column(view, "Accuracy (%)")] == sorted(numbers, reverse=True)
    view.locator("input.filter").first.fill("sglang facts")
    assert set(column(view, "Engine")) == {"sglang"} and set(column(view, "Dataset")) == {"facts-mcq"}
    assert view.locator(".count").first.text_content() == f"{len(column(view, 'Engine'))} of {len(numbers)} rows"


def test_a_verdict_opens_its_evidence(browser: Browser, small: Path) -> None:
    view, wrong = opened(browser, small)
    evidence = view.locator("[id='C1-micro-vllm']")
    assert evidence.get_attribute("open") is None
    view.locator("table.verdicts a[href='#C1-micro-vllm']").click()
    evidence.get_by_text("x0.86 [0.83, 0.88]").wait_for(state="visible")
    evidence.get_by_role("img").wait_for(state="visible")
    assert (
        evidence.get_by_role("link", name="pilot-budget-main.csv").get_attribute("href")
        == "tables/pilot-budget-main.csv"
    )
    assert evidence.get_by_text("snakemake pilot-budget").is_visible() and wrong == []


def test_a_reader_picks_a_metric_and_an_engine(browser: Browser, small: Path) -> None:
    view, wrong = opened(browser, small)
    draw_charts(view)
    chart = view.locator(".chart")
    chart.locator("select[name=metric]").select_option("ttfvt_mean")
    chart.locator("select[name=pick_engine]").select_option("sglang")
    chart.locator("svg").get_by_text("TTFVT mean (s)").wait_for()
    chart.locator("svg .mark-symbol.role-mark path").first.hover()
    said = view.locator("#vg-tooltip-element").text_content()
    for words in ("results/runs/pilot-budget/sglang/", "Starts (n)", "Questions (n)", " ["):
        assert said is not None and words in said
    assert wrong == []


def test_a_study_of_the_papers_size_is_small_and_opens_at_once(browser: Browser, study: Study, tmp_path: Path) -> None:
    files, facts = write(study, tmp_path, copies=PAPER_PAIRS, figures=8, starts=PAPER_STARTS)
    file = tmp_path / "report.html"
    file.write_text(page.render(files, facts), encoding="utf-8")
    assert file.stat().st_size < MAX_BYTES
    started = time.monotonic()
    view, wrong = opened(browser, file)
    assert time.monotonic() - started < MAX_S
    draw_charts(view)
    assert wrong == []
