"""JupyterLab of the workbook, for `make lab` and `make pod`, which set JUPYTER_CONFIG_DIR to this folder.

A learner's own ~/.jupyter plays no part: nothing there can switch the token off. labs/tools/lab.py adds what
differs between the two commands: the address, and who may connect from another origin.
"""

import os
import secrets
from pathlib import Path

c = get_config()  # type: ignore[name-defined]  # noqa: F821, Jupyter puts it there

HERE = Path(__file__).resolve().parent
STATE = HERE.parent / "runs" / "jupyter"  # ignored by git, as everything that a run leaves

c.IdentityProvider.token = os.environ.get("JUPYTER_TOKEN") or secrets.token_hex(24)
c.ServerApp.root_dir = str(HERE.parent)
c.ServerApp.open_browser = False
c.ServerApp.shutdown_no_activity_timeout = 0
c.LabApp.default_url = "/lab/tree/weeks/week5/README.md"
c.LabApp.app_settings_dir = str(
    HERE / "settings"
)  # overrides.json: no news pop-up, whole notebooks in the page
c.LabApp.user_settings_dir = str(STATE / "settings")
c.LabApp.workspaces_dir = str(STATE / "workspaces")
