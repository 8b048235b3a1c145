"""Every launch names vLLM's shared memory for itself."""

from pathlib import Path

import pytest

from labs.cluster.rank import RankContext
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


def open_and_close_engine(ctx: RankContext) -> int:
    from labs.serving.engine import EngineConfig, close_engine, open_engine

    close_engine(open_engine(EngineConfig.model_validate(ctx.config)))
    return ctx.world_size


@pytest.mark.vllm
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs /dev/shm")
def test_what_a_killed_run_left_does_not_stop_the_next_one() -> None:
    from labs.cluster.launch import launch
    from labs.core.paths import TINY_MODEL
    from labs.serving.engine import EngineConfig, engine_env

    left = [Path(f"/dev/shm/-tp:0-[0-1]-cpushm_{rank}") for rank in range(2)]
    for path in left:
        path.touch(mode=0o600)  # vLLM would create it and insist on being the first
    try:
        config = EngineConfig(model_path=str(TINY_MODEL), weights="tiny", tp=2, max_model_len=64)
        target = "labs.tests.test_shared_memory:open_and_close_engine"
        found = launch(target, 2, config.model_dump(mode="json"), env=engine_env(config), timeout=240)
        assert found == [2, 2]
    finally:
        for path in left:
            path.unlink(missing_ok=True)
