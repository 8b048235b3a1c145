"""The checkout itself: what is tracked, and that built files are what their sources give."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from labs.core.paths import ROOT

MAX_BYTES = 8 * 1024 * 1024
HOME_PATH = re.compile(r"(?<![\w.])/(?:home|Users|root)/(?!learner\b)[\w.-]+")
EMOJI = re.compile("[\U0001f300-\U0001faff\u2705\u274c\u2728]")
BINARY = {".png", ".safetensors", ".gz"}


def tracked() -> list[Path]:
    found = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in found.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> list[tuple[str, str]]:
    """(path, text) of every tracked file that is text."""
    return [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in tracked()
        if path.suffix not in BINARY
    ]


def test_no_file_is_large() -> None:
    assert {str(p): p.stat().st_size for p in tracked() if p.stat().st_size > MAX_BYTES} == {}


def test_nothing_names_the_machine_on_which_it_was_written() -> None:
    """A path of this checkout or of somebody's home works on one machine only."""
    patterns = [HOME_PATH]
    if len(ROOT.parts) > 2:  # a checkout at /app, say, would match too much
        patterns.append(re.compile(re.escape(str(ROOT)) + r"\b"))
    found = [
        f"{name}: {match[0]}"
        for name, text in texts()
        for pattern in patterns
        if (match := pattern.search(text))
    ]
    assert found == []


def test_prose_has_no_emoji() -> None:
    prose = [(name, text) for name, text in texts() if name.endswith(".md") or name.startswith("weeks/")]
    assert [name for name, text in prose if EMOJI.search(text)] == []


def test_notebooks_are_kept_without_outputs() -> None:
    notebooks = [path for path in tracked() if path.suffix == ".ipynb"]
    assert notebooks, "no notebook is tracked"
    kept = [
        f"{path.relative_to(ROOT)} cell {number}"
        for path in notebooks
        for number, cell in enumerate(json.loads(path.read_text())["cells"])
        if cell.get("outputs") or cell.get("execution_count") is not None
    ]
    assert kept == []


def test_every_notebook_has_a_source_and_both_copies() -> None:
    names = {str(path.relative_to(ROOT)) for path in tracked()}
    stems = {
        re.sub(r"^(weeks|notebooks|solutions)/|\.(py|ipynb)$", "", name) for name in names if _notebook(name)
    }
    wanted = {
        path
        for stem in stems
        for path in (f"weeks/{stem}.py", f"notebooks/{stem}.ipynb", f"solutions/{stem}.ipynb")
    }
    assert wanted - names == set()


def _notebook(name: str) -> bool:
    return bool(re.match(r"(weeks|notebooks|solutions)/week\d/\d\d_\w+\.(py|ipynb)$", name))


def test_built_notebooks_match_their_sources() -> None:
    """The same as `make notebooks` and then `git diff`, without writing."""
    command = [sys.executable, "-m", "labs", "notebooks", "--check"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_links_between_files_lead_somewhere() -> None:
    broken = []
    for name, text in texts():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path = target.partition("#")[0]
            if path and "://" not in target and not ((ROOT / name).parent / path).exists():
                broken.append(f"{name}: {target}")
    assert broken == []


def test_links_within_a_file_lead_to_a_heading() -> None:
    broken = []
    for name, text in texts():
        if name.endswith(".md"):
            anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
            broken += [f"{name}: #{a}" for a in re.findall(r"\]\(#([^)]+)\)", text) if a not in anchors]
    assert broken == []


def _anchor(heading: str) -> str:
    """GitHub's rule: lower case, letters, digits, hyphens; spaces become hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
