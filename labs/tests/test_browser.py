"""A learner's way in a real browser: JupyterLab runs notebook 03 whole, and a control moves a figure."""

import os
import shutil
from pathlib import Path

import pytest

from labs.core.paths import ROOT, SOLUTIONS
from labs.tests import jupyter

pytest.importorskip("playwright", reason="the browser test needs playwright")
pytestmark = pytest.mark.browser

NAME = "03_scaling_benchmark.ipynb"
FIGURES = "[...document.querySelectorAll('.jp-CodeCell .js-plotly-plot')]"
# What the plots show, as numbers: a redraw that changes nothing would leave it as it is.
SHOWN = f"JSON.stringify({FIGURES}.map(plot => plot.data.map(trace => [trace.x, trace.y, trace.visible])))"


def test_notebook_03_runs_whole_and_a_slider_changes_the_figure(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks" / "week5"
    folder.mkdir(parents=True)
    shutil.copy(SOLUTIONS / "week5" / NAME, folder)
    env = {"LABS_RUNS": str(tmp_path / "runs"), "COURSE_PROFILE": "cpu", "PYTHONPATH": str(ROOT)}
    with jupyter.lab(folder, env) as url, jupyter.page() as pg:
        errors: list[str] = []
        pg.on("pageerror", lambda error: errors.append(str(error)))
        jupyter.open_notebook(pg, url, NAME)
        jupyter.run_all(pg, seconds=400)
        assert pg.locator(".jp-OutputArea-output[data-mime-type*='error']").count() == 0
        assert pg.evaluate(f"{FIGURES}.length") >= 4
        handle = pg.locator(".jp-CodeCell .widget-slider .noUi-handle").first
        handle.scroll_into_view_if_needed()
        before = pg.evaluate(SHOWN)
        handle.focus()
        for _ in range(3):
            handle.press("ArrowRight")
        pg.wait_for_function(f"before => {SHOWN} !== before", arg=before, timeout=20_000)
        if target := os.environ.get("LABS_SCREENSHOT"):  # how the README's picture is made
            pg.locator(".jp-CodeCell:has(.widget-slider)").first.scroll_into_view_if_needed()
            pg.wait_for_timeout(1500)
            pg.screenshot(path=target)
        assert errors == []
