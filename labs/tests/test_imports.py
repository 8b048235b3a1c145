"""The import table of labs/README.md holds, and a notebook's kernel never imports torch or vLLM."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from labs.core.paths import ROOT

PACKAGE = ROOT / "labs"
# What a kernel or the command line imports; ranks and servers are processes of their own.
WITHOUT_TORCH = (
    "labs.core.record",
    "labs.report.figure",
    "labs.course",
    "labs.course.lab",
    "labs.course.run_week",
    "labs.cli",
    "labs.cluster.launch",
    "labs.cluster.doctor",
    "labs.serving.client",
    "labs.serving.server",
)
HEAVY = ("torch", "vllm", "transformers")
# Where only PyTorch and vLLM are installed, these parts still have to run.
WITHOUT_JUPYTER = ("core", "cluster", "model", "serving", "analysis", "experiments")
JUPYTER = {"jupyterlab", "ipywidgets", "plotly", "anywidget", "papermill", "nbformat", "nbclient", "IPython"}


def table() -> dict[str, set[str]]:
    """package -> packages of labs that it may import, from labs/README.md."""
    rows = {}
    for line in (PACKAGE / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = re.fullmatch(r"`labs\.(\w+)`", cells[0])
        if name and len(cells) == 3:
            rows[name[1]] = set() if "nothing" in cells[2] else set(re.findall(r"\w+", cells[2]))
    return rows


def modules(package: str) -> list[Path]:
    folder = PACKAGE / package
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import in the file, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_the_table_names_every_package() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} - {"tests"}
    assert folders | {"cli"} == set(table())


@pytest.mark.parametrize("package", sorted(set(table()) - {"cli"}))
def test_a_package_imports_only_what_its_row_names(package: str) -> None:
    allowed = table()[package] | {package}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for line, name in imports(path)
        if name.startswith("labs.") and name.split(".")[1] not in allowed
    ]
    assert wrong == []


def test_the_file_map_names_every_module_outside_the_weeks() -> None:
    text = (PACKAGE / "README.md").read_text()
    missing = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
        and not {"tests", "week5"} & set(path.relative_to(PACKAGE).parts)
        and path.name not in text
    ]
    assert missing == []


def test_no_relative_imports() -> None:
    found = [
        str(path)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert found == []


@pytest.mark.parametrize("package", WITHOUT_JUPYTER)
def test_measuring_needs_no_jupyter(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): name
        for path in modules(package)
        for _, name in imports(path)
        if name.split(".")[0] in JUPYTER
    }
    assert wrong == {}


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_the_kernel_and_the_command_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr


def test_the_command_line_imports_no_plotly() -> None:
    """So that `python -m labs` runs where only PyTorch and vLLM are installed."""
    code = f"import sys, labs.cli; print(sorted(set({sorted(JUPYTER)!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr


def test_every_import_is_declared() -> None:
    """A third-party package that is imported is a dependency of pyproject.toml, not only somebody else's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {_canonical(re.split(r"[ <>=\[;]", line)[0]) for line in lines}
    distributions = packages_distributions()
    missing = {}
    for path in PACKAGE.rglob("*.py"):
        for _, name in imports(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in ("labs", "install"):
                continue
            names = {_canonical(each) for each in distributions.get(top, [top])}
            if not names & declared:
                missing[top] = str(path.relative_to(ROOT))
    assert missing == {}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
