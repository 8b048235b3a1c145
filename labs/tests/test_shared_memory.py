"""Every launch names vLLM's shared memory for itself."""

from pathlib import Path

import pytest

from labs.cluster.launch import launch
from labs.cluster.rank import RankContext
from labs.core.paths import TINY_MODEL
from labs.serving.engine import EngineConfig, engine_env
from labs.serving.shared_memory import own_name

VLLMS = "//-tp:0-[0-1]-cpushm"  # what vLLM makes of `env://`, the same for every launch
ENV = {"LABS_RUN": "outer/inner", "MASTER_PORT": "29500"}


def test_ranks_of_a_launch_share_a_name_and_launches_do_not() -> None:
    assert own_name(VLLMS, ENV | {"RANK": "0"}) == own_name(VLLMS, ENV | {"RANK": "1"})
    for other in ({"LABS_RUN": "outer/other"}, {"MASTER_PORT": "29501"}, {"TORCHELASTIC_RESTART_COUNT": "1"}):
        assert own_name(VLLMS, ENV | other) != own_name(VLLMS, ENV)


def test_a_name_is_one_file_in_dev_shm() -> None:
    assert "/" not in own_name(VLLMS, ENV)
    assert len(own_name(VLLMS, ENV)) < 200  # NAME_MAX is 255, and vLLM appends the rank


def mapped(ctx: RankContext) -> list[str]:
    """Open an engine and say which shared memory this rank has mapped for it."""
    from labs.serving.engine import EngineConfig, close_engine, open_engine

    engine = open_engine(EngineConfig.model_validate(ctx.config))
    lines = Path("/proc/self/maps").read_text().splitlines()
    close_engine(engine)
    return sorted({line.split("/dev/shm/")[1] for line in lines if "cpushm" in line})


@pytest.mark.vllm
def test_the_ranks_of_an_engine_use_that_name() -> None:
    config = EngineConfig(model_path=str(TINY_MODEL), weights="tiny", tp=2, max_model_len=64)
    target, env = "labs.tests.test_shared_memory:mapped", engine_env(config)
    first, second = launch(target, 2, config.model_dump(mode="json"), env=env, timeout=240, on_line=None)
    assert first == second
    assert [name.rpartition("_")[2] for name in first] == ["0", "1"]
    assert all(name.startswith("labs-") for name in first)
    left = [name for name in first if (Path("/dev/shm") / name).exists()]
    assert left == []
