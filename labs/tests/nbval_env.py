"""What `pytest --nbval-lax --nbval-current-env solutions/` runs notebooks with: a pytest plugin.

Every solution runs as a learner would run it, on the CPU profile unless COURSE_PROFILE says otherwise, and
whatever fails in it raises (LABS_STRICT). Records and answers go to a folder of the test's own.
"""

import os
import shutil
import tempfile
from typing import Any

from labs.core.paths import ROOT

_runs = ""


def pytest_configure(config: Any) -> None:
    """Set the environment that nbval's kernels inherit."""
    global _runs
    if not (config.getoption("nbval_lax", default=False) or config.getoption("nbval", default=False)):
        return
    _runs = tempfile.mkdtemp(prefix="labs-nbval-")
    os.environ["LABS_RUNS"] = _runs
    os.environ["LABS_STRICT"] = "1"
    os.environ["LABS_LEARNER"] = "nbval"
    os.environ.pop("LABS_REVEAL", None)
    os.environ.setdefault("COURSE_PROFILE", "cpu")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def pytest_unconfigure(config: Any) -> None:
    """Remove what the notebooks left."""
    if _runs:
        shutil.rmtree(_runs, ignore_errors=True)
