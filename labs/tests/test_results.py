"""Our rows under vLLM's keys: the keys are those that vLLM's client writes, and so are the values."""

import json
from datetime import datetime

import pytest

from labs.core.errors import UserError
from labs.serving import arrivals, workload
from labs.serving.results import vllm_json
from labs.serving.vllm_bench import run_vllm_bench
from labs.tests.sse_server import Server, steady
from labs.tests.test_client import send
from labs.tests.test_vllm_bench import needs_vllm

DATE = datetime(2026, 1, 2, 3, 4, 5)


def row(token_s, *, intended=0.0, sent=0.0, error=None):
    return {
        "kind": "request", "run": "", "request": 0, "client": 0, "class": "", "input_tokens": 4,
        "output_tokens": len(token_s), "intended_s": intended, "sent_s": sent, "queue_s": 0.0,
        "token_s": token_s, "finished_s": token_s[-1] if token_s else sent + 0.1, "error": error,
    }  # fmt: skip


def test_values_and_units_by_hand():
    rows = [
        row([0.5, 0.7, 0.9], intended=0.1, sent=0.2),
        row([1.5, 1.5], intended=1.0, sent=1.0),
        row([1.9], intended=1.0, sent=1.0, error="cut"),
    ]
    found = vllm_json(rows, model_id="m", request_rate=2.0, goodput_ms={"ttft": 400, "e2el": 800}, date=DATE)
    assert found["date"] == "20260102-030405"
    assert (found["num_prompts"], found["completed"], found["failed"]) == (3, 2, 1)
    assert found["duration"] == 1.9  # from the start of the run to the end of the last stream
    assert found["request_throughput"] == pytest.approx(2 / 1.9)
    assert found["output_throughput"] == pytest.approx(5 / 1.9)
    assert found["total_token_throughput"] == pytest.approx(13 / 1.9)
    assert found["request_goodput"] == pytest.approx(1 / 1.9)
    assert found["ttfts"] == [pytest.approx(0.3), pytest.approx(0.5), None]  # from the actual send
    assert found["queue_times"] == [pytest.approx(0.1), 0.0, 0.0]
    assert found["latencies"] == [pytest.approx(0.7), pytest.approx(0.5), None]
    assert found["itls"] == [[pytest.approx(0.2)] * 2, [], None]
    assert found["output_lens"] == [3, 2, 0]
    assert found["errors"] == ["", "", "cut"]
    assert found["median_ttft_ms"] == pytest.approx(400)
    assert found["mean_tpot_ms"] == pytest.approx(100)
    assert found["std_ttft_ms"] == pytest.approx(100)  # over the population
    assert found["p50_ttft_ms"] == pytest.approx(400)
    assert found["p99_ttft_ms"] is None  # two requests cannot carry it
    assert found["max_output_tokens_per_s"] == 3.0
    assert found["max_concurrent_requests"] == 2
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_run_without_a_completed_request_has_no_figures_and_no_zero_in_their_place():
    found = vllm_json([row([], error="refused")], model_id="m")
    assert (found["completed"], found["failed"], found["request_rate"]) == (0, 1, "inf")
    for key in ("median_ttft_ms", "mean_tpot_ms", "std_itl_ms", "p50_e2el_ms", "max_output_tokens_per_s"):
        assert found[key] is None, key
    assert vllm_json([], model_id="m")["duration"] is None
    with pytest.raises(UserError, match="goodput limits are ttft, tpot, e2el in ms, found itl"):
        vllm_json([], model_id="m", goodput_ms={"itl": 5.0})


@needs_vllm
def test_keys_and_values_are_those_of_vllms_client():
    """Both clients, the same requests and arrivals, the same scripted server: 80 ms, then 20 ms a token."""
    requests = workload.fixed(12, 8, 6, 100, seed=1)
    times = arrivals.poisson(12, rate=10, seed=1)
    limits = {"ttft": 5000.0, "tpot": 5000.0}
    with Server(steady(first=0.08, gap=0.02)) as server:
        theirs = run_vllm_bench(
            server.url,
            "m",
            requests,
            arrivals=times,
            concurrency=50,
            goodput_ms=limits,
            percentiles=(50, 99.9),
        )
        rows = send(server, requests, arrivals=times, concurrency=50, keep_ids=False)["rows"]
    ours = vllm_json(rows, model_id="m", max_concurrency=50, goodput_ms=limits, percentiles=(50, 99.9))
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        if isinstance(value, list):
            assert len(ours[key]) == len(value), key
        if ours[key] is not None and value is not None:
            assert isinstance(ours[key], float | int if isinstance(value, float | int) else type(value)), key
    same = ["backend", "num_prompts", "request_rate", "max_concurrency", "completed", "failed", "model_id"]
    same += ["total_input_tokens", "total_output_tokens", "input_lens", "output_lens", "errors"]
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["output_throughput"] == pytest.approx(theirs["output_throughput"], rel=0.1)
    assert ours["median_ttft_ms"] == pytest.approx(theirs["median_ttft_ms"], abs=40)
    assert ours["median_tpot_ms"] == pytest.approx(theirs["median_tpot_ms"], abs=10)
    assert [len(gaps) for gaps in ours["itls"]] == [5] * 12


def test_our_client_alone_gives_a_complete_file():
    with Server(steady()) as server:
        rows = send(server, workload.fixed(3, 8, 2, 100), concurrency=1)["rows"]
    found = vllm_json(rows, model_id="m", max_concurrency=1, date=DATE)
    assert found["completed"] == 3
    assert found["median_client_queue_time_ms"] < 100
