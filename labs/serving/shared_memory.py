"""Names of the shared memory through which vLLM's CPU ranks exchange tensors.

vLLM 0.32 names it after the port of its rendezvous. Ranks that an external launcher has started have no such
port there, so every launch on the machine would use one name: of two that start at once, one ends with
`create shm in SHMManager failed. errno: 17`, or its ranks meet those of the other.
"""

import os
from collections.abc import Mapping
from typing import Any


def own_name(name: str, env: Mapping[str, str] = os.environ) -> str:
    """vLLM's name, made this launch's own: the same in all its ranks, another in every other launch."""
    launch = [env.get("LABS_RUN", ""), env.get("TORCHELASTIC_RUN_ID", ""), env.get("MASTER_PORT", "")]
    engine = env.get("TORCHELASTIC_RESTART_COUNT", "0")  # engines of one launch follow each other
    return "-".join(["labs", *filter(None, launch), engine, name]).replace("/", ".")


def use_own_names() -> None:
    """Give the shared memory of this rank's engine a name of its own; before the engine is made."""
    from vllm.distributed.device_communicators import cpu_communicator

    group: Any = cpu_communicator._CPUSHMDistributed
    if not hasattr(group, "vllms_name"):
        group.vllms_name = staticmethod(group.make_group_name)
        group.make_group_name = staticmethod(lambda communicator: own_name(group.vllms_name(communicator)))
