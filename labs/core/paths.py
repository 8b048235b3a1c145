"""Where things lie in the checkout. The package is installed editable, so the checkout is its parent."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEEKS = ROOT / "weeks"
NOTEBOOKS = ROOT / "notebooks"
SOLUTIONS = ROOT / "solutions"
TINY_MODEL = ROOT / "labs" / "model" / "tiny"


def runs_dir() -> Path:
    """The ignored folder that keeps what runs leave; `LABS_RUNS` moves it (tests do)."""
    path = Path(os.environ.get("LABS_RUNS", ROOT / "runs"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def recorded_dir(week: str) -> Path:
    """`week5` -> weeks/week5/recorded, the committed Records of real GPU runs."""
    return WEEKS / week / "recorded"
