"""The offline engine in its ranks, on the tiny model: the same answers at TP=1 and TP=2, shards, messages."""

import json
import math
import time
from typing import Any

import pytest
from pydantic import ValidationError

from labs.cluster.launch import launch
from labs.cluster.rank import RankContext
from labs.core.errors import UserError
from labs.core.paths import TINY_MODEL
from labs.serving.engine import EngineConfig, engine_arguments, engine_env

LAYERS, HIDDEN, VOCAB = 4, 256, 2048
PROMPTS = [[5 * i + j for j in range(3 + 4 * i)] for i in range(8)]
TOKENS = 24


def tiny(tp: int = 1, **settings: Any) -> EngineConfig:
    return EngineConfig(model_path=str(TINY_MODEL), weights="tiny", tp=tp, max_model_len=512, **settings)


def examine(ctx: RankContext) -> dict[str, Any]:
    """What a rank does in these tests: one engine, every helper once, then a second engine."""
    from labs.serving import collectives, engine, shards

    config = EngineConfig(**ctx.config)
    start = time.perf_counter()
    llm = engine.open_engine(config)
    found: dict[str, Any] = {"open_s": time.perf_counter() - start, "rank": ctx.rank}
    answers = engine.generate_ids(llm, PROMPTS, TOKENS, logprobs=2)
    found["ids"] = [answer.token_ids for answer in answers]
    found["logprobs"] = [answer.logprobs for answer in answers]
    found["top"] = [[max(place.values()) for place in answer.top or []] for answer in answers]
    found["times"] = [[answer.queue_s, answer.prefill_s, answer.decode_s] for answer in answers]
    found["scores"] = engine.score_ids(llm, PROMPTS, found["ids"])
    found["timed"] = engine.timed_generate(llm, PROMPTS, TOKENS, repeats=3)
    found["weights"] = shards.weight_table(llm)
    found["memory"] = shards.memory_figures(llm)
    found["step"] = collectives.step_collectives(llm)
    if config.tp > 1:
        found["all_reduce"] = collectives.time_all_reduce(llm, [1, 64], repeats=20)
    engine.close_engine(llm)
    found["rss_closed"] = shards.resident_bytes()
    again = engine.open_engine(config)
    found["again"] = [answer.token_ids for answer in engine.generate_ids(again, PROMPTS, TOKENS)]
    engine.close_engine(again)
    return found


def refuse(ctx: RankContext) -> None:
    """Opens an engine that cannot be opened."""
    from labs.serving.engine import open_engine

    open_engine(EngineConfig(**ctx.config))


@pytest.fixture(scope="module")
def found() -> dict[int, list[dict[str, Any]]]:
    """What the ranks found, by TP size."""
    results = {}
    for tp in (1, 2):
        config = tiny(tp)
        results[tp] = launch(
            "labs.tests.test_engine:examine",
            tp,
            config.model_dump(mode="json"),
            timeout=240,
            env=engine_env(config),
            on_line=None,
            name=f"test-engine-tp{tp}",
            pin=True,
        )
    print(json.dumps({tp: [(r["open_s"], r["timed"]) for r in rs] for tp, rs in results.items()}))
    return results


@pytest.mark.vllm
def test_the_split_model_writes_the_same_greedy_tokens(found: Any) -> None:
    whole = found[1][0]
    assert [len(ids) for ids in whole["ids"]] == [TOKENS] * len(PROMPTS)
    assert [rank["ids"] for rank in found[2]] == [whole["ids"]] * 2
    gaps = [
        abs(a - b)
        for one, two in zip(whole["logprobs"], found[2][0]["logprobs"], strict=True)
        for a, b in zip(one, two, strict=True)
    ]
    assert max(gaps) < 1e-3  # float32: only the order of the sums differs


@pytest.mark.vllm
def test_logprobs_are_of_the_chosen_tokens(found: Any) -> None:
    for rank in (found[1][0], *found[2]):
        assert rank["logprobs"] == rank["top"]  # greedy: the chosen one is the most probable
        for written, scored in zip(rank["logprobs"], rank["scores"], strict=True):
            assert max(abs(a - b) for a, b in zip(written, scored, strict=True)) < 1e-3
        assert all(queue >= 0 and prefill > 0 and decode > 0 for queue, prefill, decode in rank["times"])


@pytest.mark.vllm
def test_timed_calls_count_their_tokens(found: Any) -> None:
    for row in found[2][0]["timed"]:
        assert row["requests"] == len(PROMPTS)
        assert row["input_tokens"] == sum(map(len, PROMPTS))
        assert row["output_tokens"] == TOKENS * len(PROMPTS)
        assert row["seconds"] > 0
    assert [row["repeat"] for row in found[2][0]["timed"]] == [0, 1, 2]


@pytest.mark.vllm
def test_the_shards_of_both_ranks_make_the_whole(found: Any) -> None:
    whole = {row["name"]: row for row in found[1][0]["weights"]}
    kinds = {"column": 0, "row": 1, "vocabulary": 0}
    for rank in found[2]:
        assert [row["name"] for row in rank["weights"]] == list(whole)
        for row in rank["weights"]:
            expected = list(whole[row["name"]]["shape"])
            if row["split"] in kinds:
                expected[kinds[row["split"]]] //= 2
            assert row["shape"] == expected, row
    table = {row["name"]: row for row in found[2][1]["weights"]}
    assert table["model.layers.0.self_attn.qkv_proj.weight"]["parts"] == {
        "q_proj": 128,
        "k_proj": 64,
        "v_proj": 64,
    }
    assert table["model.layers.0.self_attn.o_proj.weight"]["shape"] == [HIDDEN, HIDDEN // 2]
    assert table["model.norm.weight"]["split"] == "replicated"


@pytest.mark.vllm
def test_memory_is_what_was_asked_for(found: Any) -> None:
    one, two = found[1][0]["memory"], found[2][0]["memory"]
    assert one["weight_bytes"] == sum(row["bytes"] for row in found[1][0]["weights"])
    assert 0.5 <= two["weight_bytes"] / one["weight_bytes"] < 0.52  # the norms are whole on both ranks
    assert one["kv_bytes"] == two["kv_bytes"] == 1 << 30
    assert two["kv_tokens"] == 2 * one["kv_tokens"]  # each rank holds half of the heads
    assert one["kv_tokens"] == (1 << 30) // (2 * LAYERS * 4 * 32 * 4)  # K and V, 4 heads of 32, 4 bytes
    assert one["rss_bytes"] > one["weight_bytes"]
    assert one["allocated_bytes"] is None


@pytest.mark.vllm
def test_a_decode_step_sends_what_megatron_says(found: Any) -> None:
    assert found[1][0]["step"] == []
    for rank in found[2]:
        rows = {row["op"]: row for row in rank["step"]}
        assert set(rows) == {"all_reduce", "all_gather"}
        assert rows["all_reduce"]["count"] == 2 * LAYERS + 1
        assert rows["all_reduce"]["shape"] == [1, HIDDEN]
        assert rows["all_gather"]["count"] == 1
        assert rows["all_gather"]["shape"] == [1, VOCAB // 2]
        assert {row["counted"] for row in rank["step"]} == {"decode step"}


@pytest.mark.vllm
def test_all_reduce_times_are_raw_samples(found: Any) -> None:
    for rank in found[2]:
        assert [row["tokens"] for row in rank["all_reduce"]] == [1, 64]
        for row in rank["all_reduce"]:
            assert row["bytes"] == row["tokens"] * HIDDEN * 4
            assert row["carrier"] == "vLLM shared memory"
            assert row["captured"] is False
            assert len(row["samples_us"]) == 20
            assert all(math.isfinite(sample) and sample > 0 for sample in row["samples_us"])


@pytest.mark.vllm
def test_a_closed_engine_can_be_opened_again(found: Any) -> None:
    for tp in (1, 2):
        assert all(rank["again"] == found[1][0]["ids"] for rank in found[tp])


@pytest.mark.vllm
def test_an_argument_that_vllm_does_not_know_is_one_line() -> None:
    config = tiny(extra={"no_such_thing": 1})
    with pytest.raises(UserError, match=r"has no engine argument 'no_such_thing'"):
        launch("labs.tests.test_engine:refuse", 1, config.model_dump(mode="json"), timeout=60, on_line=None)


def test_a_launch_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from labs.serving.engine import open_engine

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="TP=4 needs 4 ranks; this launch has 2"):
        open_engine(tiny(4))


def test_a_cpu_engine_is_eager_and_never_compiles() -> None:
    arguments = engine_arguments(tiny())
    assert arguments["enforce_eager"] is True
    assert "gpu_memory_utilization" not in arguments
    env = engine_env(tiny(kv_cache_gib=3))
    assert env["TORCH_COMPILE_DISABLE"] == env["OMP_NUM_THREADS"] == env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_CPU_KVCACHE_SPACE"] == "3"


def test_dummy_weights_need_neither_files_nor_tokenizer() -> None:
    config = EngineConfig(model_path="x/y", weights="dummy", has_tokenizer=False, profile="gpu")
    arguments = engine_arguments(config)
    assert arguments["load_format"] == "dummy"
    assert arguments["skip_tokenizer_init"] is True
    assert arguments["enforce_eager"] is False
    assert engine_env(config)["HF_HUB_OFFLINE"] == "1"


def test_a_hub_name_with_real_weights_may_reach_the_hub() -> None:
    assert "HF_HUB_OFFLINE" not in engine_env(EngineConfig(model_path="x/y", profile="gpu"))


def test_on_a_gpu_the_users_variables_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth0")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    env = engine_env(EngineConfig(model_path="x/y", profile="gpu"))
    assert "NCCL_SOCKET_IFNAME" not in env
    assert env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"  # the external launcher cannot do without


def test_none_means_the_default_of_vllm_and_extra_wins() -> None:
    arguments = engine_arguments(tiny(scheduling_policy="priority", extra={"seed": 7}))
    assert "async_scheduling" not in arguments
    assert arguments["scheduling_policy"] == "priority"
    assert arguments["seed"] == 7


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="max_seqs"):
        tiny(max_seqs=3)
