"""Where a run's processes keep their temporary files, and what must not lie there."""

import getpass
import os
import re
import tempfile

LONGEST_BASE = 56  # characters: a socket's path may have 107, and vLLM's sockets have names of 36


def new_folder() -> str:
    """A folder for a run's temporary files, with a path that leaves room for the names of sockets in it."""
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="labs-", dir=base if len(base) <= LONGEST_BASE else "/tmp")


def inductor_cache() -> str:
    """Where torch.compile keeps its cache by default: it outlives the run, so it must not follow TMPDIR."""
    try:
        user = re.sub(r'[\\/:*?"<>|]', "_", getpass.getuser())
    except (KeyError, OSError):  # no name for this user id, as in some containers
        user = f"uid_{os.getuid()}"
    return f"{tempfile.gettempdir()}/torchinductor_{user}"
