"""Where things lie in the checkout. The package is installed editable, so the checkout is its parent."""

import os
from pathlib import Path

from labs.core.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
WEEKS = ROOT / "weeks"
NOTEBOOKS = ROOT / "notebooks"
SOLUTIONS = ROOT / "solutions"
TINY_MODEL = ROOT / "labs" / "model" / "tiny"


def runs_dir() -> Path:
    """The ignored folder that keeps what runs leave; `LABS_RUNS` moves it (tests do).

    UserError if it cannot be made or written.
    """
    path = Path(os.environ.get("LABS_RUNS") or ROOT / "runs")
    try:
        path.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(path, os.W_OK) else "not writable"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise UserError(f"cannot keep runs in {path}: {why}; set LABS_RUNS to a folder of yours")
    return path


def recorded_dir(week: str) -> Path:
    """`week5` -> weeks/week5/recorded, the committed Records of real GPU runs."""
    return WEEKS / week / "recorded"
