"""The text that the tiny checkpoint learns from: the workbook's own prose.

A document is one guide (Markdown), the Markdown cells of one notebook source, or the docstrings of one
module outside the tests. The order is that of the sorted paths, so the same checkout gives the same text.
"""

import ast
import hashlib
import re
from pathlib import Path

from labs.core.paths import ROOT

CELL = re.compile(r"^# %%(?P<header>.*)$", re.MULTILINE)


def collect(root: Path = ROOT) -> dict[str, str]:
    """Path relative to `root` -> prose, for every document with any, in sorted order."""
    guides = [root / "README.md", root / "labs" / "README.md", *root.glob("weeks/**/README.md")]
    notebooks = root.glob("weeks/**/*.py")
    modules = [path for path in root.glob("labs/**/*.py") if "tests" not in path.relative_to(root).parts]
    texts = {path: path.read_text(encoding="utf-8") for path in guides if path.is_file()}
    texts |= {path: markdown_cells(path.read_text(encoding="utf-8")) for path in notebooks}
    texts |= {path: docstrings(path.read_text(encoding="utf-8")) for path in modules}
    documents = {path.relative_to(root).as_posix(): text.strip() for path, text in texts.items()}
    return {name: documents[name] for name in sorted(documents) if documents[name]}


def digest(documents: dict[str, str]) -> str:
    """SHA-256 of the texts in their order, without their paths."""
    return hashlib.sha256("\0".join(documents.values()).encode()).hexdigest()


def words(text: str) -> list[str]:
    """Lower-case words of at least two letters."""
    return re.findall(r"[a-z]{2,}", text.lower())


def markdown_cells(source: str) -> str:
    """The text of the `# %% [markdown]` cells of a percent-format notebook source."""
    parts = CELL.split(source)  # [before, header, body, header, body, …]
    cells = [
        "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines())
        for header, body in zip(parts[1::2], parts[2::2], strict=True)
        if "[markdown]" in header
    ]
    return "\n\n".join(cells)


def docstrings(source: str) -> str:
    """The docstrings of a module, its classes and its functions, in the order of the source."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    return "\n\n".join(text for node in nodes if (text := ast.get_docstring(node)))
