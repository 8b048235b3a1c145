"""A real JupyterLab for tests: started on a folder of its own, always ended, driven by headless Chromium."""

import contextlib
import json
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labs.cluster.ports import free_port
from labs.cluster.processes import guarded
from labs.core.paths import ROOT

TOKEN = "a-token-of-the-test"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Chromium's own look-ups of its maker's hosts are no part of the test, and hang where there is no network.
QUIET = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


@contextlib.contextmanager
def lab(folder: Path, env: dict[str, str]) -> Iterator[str]:
    """JupyterLab over `folder`; yields its URL. What it keeps of its own stays below `folder`."""
    port, state = free_port(), folder / ".jupyter-state"
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"),
        *(
            f"--LabApp.workspaces_dir={state / 'workspaces'}",
            f"--LabApp.user_settings_dir={state / 'settings'}",
        ),
    ]
    home = {
        "HOME": str(state),
        "JUPYTER_CONFIG_DIR": str(ROOT / ".jupyter"),
        "JUPYTER_RUNTIME_DIR": str(state / "run"),
    }
    url = f"http://127.0.0.1:{port}"
    with guarded("jupyter") as guard:
        server = guard.spawn(command, env={**home, **env}, log=folder / "jupyter.log")
        deadline = time.monotonic() + 90
        while not _answers(f"{url}/api/status?token={TOKEN}"):
            assert server.poll() is None, (folder / "jupyter.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "JupyterLab did not answer within 90 s"
            time.sleep(0.2)
        yield url


@contextlib.contextmanager
def page(width: int = 1400, height: int = 1100) -> Iterator[Any]:
    """A page of headless Chromium: $CHROMIUM, the machine's own, or the one that Playwright has installed."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)
    own = os.environ.get("CHROMIUM") or found
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=own, args=QUIET)
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def open_notebook(pg: Any, url: str, name: str) -> None:
    """Open a notebook and wait until its kernel is idle."""
    pg.goto(f"{url}/lab/tree/{name}?token={TOKEN}&reset")
    pg.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=90_000)


def run_all(pg: Any, seconds: float) -> None:
    """Run > Run All Cells, and wait until the last one has run."""
    started, done = _prompts("some", r"\[\d+\]"), _prompts("every", r"\[\d+\]")
    from playwright import sync_api as playwright

    pg.locator(".jp-NotebookPanel .jp-Cell").first.click()
    for _ in range(3):  # while its page has no kernel yet, JupyterLab drops the run without a word
        pg.get_by_role("menuitem", name="Run", exact=True).click()
        pg.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        with contextlib.suppress(playwright.TimeoutError):
            pg.wait_for_function(started, timeout=20_000, polling=200)
            break
    pg.wait_for_function(done, timeout=seconds * 1000, polling=500)


def _prompts(which: str, pattern: str) -> str:
    """JavaScript: do some, or does every one, of the notebook's prompts match the pattern?"""
    prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
    return f"() => {prompts}.length > 3 && {prompts}.{which}(prompt => /{pattern}/.test(prompt.textContent))"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return "started" in json.load(response)
    except OSError:
        return False
