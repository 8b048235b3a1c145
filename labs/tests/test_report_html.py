"""The week's report: whole, self-contained, escaped; a browser without a network draws its plots."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from labs.core.record import Record
from labs.report import html
from labs.report.figure import FigureSpec
from labs.report.html import Entry
from labs.tests.report_toys import SPEC, own, record, recorded

EVIL = "</script><script>document.title = 'taken'</script>"


def broken(*arguments: Any, **controls: Any) -> Any:
    raise ZeroDivisionError("nothing over nothing")


def evil() -> Record:
    origin = own().provenance
    hardware = {**origin.hardware, "summary": EVIL}
    marked = origin.model_copy(update={"model": EVIL, "hardware": hardware, "command": EVIL})
    return own().model_copy(update={"provenance": marked})


def entries() -> list[Entry]:
    return [
        Entry(
            "week5/01_tensor_parallel_setup",
            "Does a split model say the same?",
            "ok",
            74.2,
            own(),
            [recorded()],
            [SPEC],
            points=(5, 8),
            results=[{"TP": 1, "load (s)": 2.71}, {"TP": 2, "load (s)": None}],
            predictions={"W5.N9.P1": 90},
        ),
        Entry(
            "week5/02_concurrent_requests",
            EVIL,
            "ok",
            None,
            evil(),
            figures=[SPEC, FigureSpec("broken", "Broken", broken, broken, broken)],
        ),
        Entry(
            "week5/03_scaling_benchmark", "What is one more worth?", "failed", 3.0, message=f"rank 1 {EVIL}"
        ),
        Entry("week5/04_empty", "Nothing yet", "ok", 1.0, record({}), figures=[SPEC]),
    ]


def without_plotly(page: str) -> str:
    from plotly.offline import get_plotlyjs

    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def test_page_is_self_contained_and_escaped() -> None:
    page = without_plotly(html.page("week5", entries()))
    assert not re.search(r"""(src|href)=["'](?!#|data:,)""", page)
    assert "cdn.plot.ly" not in page
    assert "<script>document.title" not in page
    assert page.count("Plotly.newPlot(") == 3


def test_page_shows_every_notebook_with_its_results_sources_and_faults() -> None:
    page = without_plotly(html.page("week5", entries()))
    assert "4 notebooks, 3 ok, 78 s." in page
    assert '<a href="#week5-01_tensor_parallel_setup">' in page
    assert '<h2 id="week5-01_tensor_parallel_setup">' in page
    assert "5 of 8" in page
    assert "FAILED" in page
    assert "Figure &#x27;broken&#x27; could not be drawn: ZeroDivisionError: nothing over nothing" in page
    assert own().label() in page
    assert recorded().label() in page
    assert "Where this ran" in page
    assert "No scaling run yet" in page
    assert "TP=2 writes 48 tokens/s" in page
    assert '<td class="num">not measured</td>' in page


def test_no_record_no_environment_card() -> None:
    assert html.environment_of([Entry("week5/01_x", "X", "failed", None)]) is None
    assert "Nothing was measured." in html.page("week5", [Entry("week5/01_x", "X", "failed", None)])


def test_an_earlier_report_stands_when_a_later_one_cannot_be_made(tmp_path: Path) -> None:
    path = html.week_report("week5", entries()[:1], tmp_path / "week5" / "report.html")
    before = path.read_text(encoding="utf-8")
    with pytest.raises(AttributeError):
        html.week_report("week5", [None], path)  # type: ignore[list-item]
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_without_network_every_plot_is_drawn(tmp_path: Path, scheme: Any) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium; or set CHROMIUM)")
    path = html.week_report("week5", entries(), tmp_path / "report.html")
    said: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_context(offline=True, color_scheme=scheme).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector("#week5-04_empty-throughput .main-svg")
        drawn = page.evaluate("[...document.querySelectorAll('.js-plotly-plot')].map(p => p.data.length)")
        overlaps = page.evaluate(_OVERLAPS)
        title = page.title()
        browser.close()
    assert drawn == [3, 1, 0]
    assert title == "Report of week5"
    assert overlaps == []
    assert said == []


# Plots whose legend covers the series, the x axis title or the subtitle.
_OVERLAPS = """
[...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => {
  const legend = plot.querySelector('.legend')?.getBoundingClientRect();
  if (!legend) return [];
  return ['.scatterlayer', '.xtitle', '.gtitle-subtitle'].filter(name => {
    const box = plot.querySelector(name).getBoundingClientRect();
    return !box.height || (box.bottom > legend.top + 1 && box.top < legend.bottom - 1);
  }).map(name => plot.id + name);
})
"""
