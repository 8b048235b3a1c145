"""Workloads: seeded, of the asked sizes, distinct prompts; trace files read, or refused with one line."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from labs.core.errors import UserError
from labs.serving import traces, workload
from labs.serving.workload import TrafficClass

VOCAB = 2048
BLOCK = 16


def shared_prefix(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_fixed_has_the_sizes_the_clients_and_ids_below_the_vocabulary():
    requests = workload.fixed(10, 32, 8, VOCAB, seed=1, clients=3)
    assert [len(r.prompt_token_ids) for r in requests] == [32] * 10
    assert [r.max_tokens for r in requests] == [8] * 10
    assert [r.client for r in requests] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert all(0 <= t < VOCAB for r in requests for t in r.prompt_token_ids)


def test_workloads_depend_on_the_seed_alone():
    assert workload.fixed(5, 8, 2, VOCAB, 1) == workload.fixed(5, 8, 2, VOCAB, 1)
    assert workload.fixed(5, 8, 2, VOCAB, 1) != workload.fixed(5, 8, 2, VOCAB, 2)


def test_no_two_prompts_share_a_cache_block_unless_asked():
    heads = Counter(tuple(r.prompt_token_ids[:BLOCK]) for r in workload.fixed(200, 64, 8, VOCAB))
    assert max(heads.values()) == 1
    requests = workload.fixed(20, 64, 8, VOCAB, shared_prefix=32)
    first = requests[0].prompt_token_ids
    assert all(shared_prefix(first, r.prompt_token_ids) in range(32, 36) for r in requests[1:])
    assert {len(r.prompt_token_ids) for r in requests} == {64}


def test_random_lengths_fill_the_range_of_vllms_range_ratio():
    requests = workload.random_lengths(2000, 100, 10, {"input": 0.2, "output": 0.5}, VOCAB)
    inputs = [len(r.prompt_token_ids) for r in requests]
    outputs = [r.max_tokens for r in requests]
    assert (min(inputs), max(inputs)) == (80, 120)
    assert (min(outputs), max(outputs)) == (5, 15)
    assert sum(inputs) / len(inputs) == pytest.approx(100, rel=0.02)
    assert workload.total_tokens(requests) == (sum(inputs), sum(outputs))


def test_mixed_keeps_the_shares_and_shuffles():
    classes = [
        TrafficClass(name="short", share=3, input_tokens=16, output_tokens=8),
        TrafficClass(name="long", share=1, input_tokens=256, output_tokens=4, priority=5),
    ]
    requests = workload.mixed(101, classes, VOCAB, seed=4, clients=2)
    assert Counter(r.cls for r in requests) == {"short": 76, "long": 25}
    assert {len(r.prompt_token_ids) for r in requests if r.cls == "long"} == {256}
    assert {r.priority for r in requests if r.cls == "long"} == {5}
    assert [r.client for r in requests[:4]] == [0, 1, 0, 1]
    assert {r.cls for r in requests[:40]} == {"short", "long"}  # not one class after the other
    assert requests == workload.mixed(101, classes, VOCAB, seed=4, clients=2)


@pytest.mark.parametrize(("call", "words"), [
    (lambda: workload.fixed(-1, 8, 8, VOCAB), "number of requests"),
    (lambda: workload.fixed(1, 0, 8, VOCAB), "input_tokens"),
    (lambda: workload.fixed(1, 8, 0, VOCAB), "output_tokens"),
    (lambda: workload.fixed(1, 8, 8, 1), "vocab"),
    (lambda: workload.fixed(1, 8, 8, VOCAB, clients=0), "clients"),
    (lambda: workload.fixed(1, 8, 8, VOCAB, shared_prefix=9), "shared_prefix"),
    (lambda: workload.random_lengths(1, 8, 8, 1.0, VOCAB), "range_ratio"),
    (lambda: workload.random_lengths(1, 8, 8, {"input": 0.1}, VOCAB), "range_ratio"),
    (lambda: workload.mixed(4, [], VOCAB), "at least one class"),
    (lambda: workload.fixed(1, 8, 8, VOCAB, seed=-1), "a seed must be"),
    (lambda: workload.mixed(4, [], VOCAB, seed=-1), "a seed must be"),
    (lambda: traces.mooncake("none", VOCAB, seed=-1), "a seed must be"),
])  # fmt: skip
def test_bad_sizes_are_user_errors(call, words):
    with pytest.raises(UserError, match=words):
        call()


def encode(text):
    return [ord(c) for c in text]


def conversation(question, answer):
    return {
        "id": "x",
        "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
    }


def test_sharegpt_takes_question_and_length_of_the_answer(tmp_path):
    path = tmp_path / "s.json"
    entries = [conversation(f"question {i}", "an answer"[: 4 + i % 5]) for i in range(20)]
    entries += [{"conversations": [{"value": "alone"}]}, conversation("hi", "too short a question")]
    entries += [conversation("q" * 2000, "too long a question")]
    path.write_text(json.dumps(entries))
    requests = traces.sharegpt(path, encode, n=20, seed=3)
    got = {("".join(map(chr, r.prompt_token_ids)), r.max_tokens) for r in requests}
    assert got == {(f"question {i}", 4 + i % 5) for i in range(20)}
    assert requests == traces.sharegpt(path, encode, n=20, seed=3)
    assert requests != traces.sharegpt(path, encode, n=20, seed=4)
    with pytest.raises(UserError, match="20 of 23 conversations"):
        traces.sharegpt(path, encode, n=21)


@pytest.mark.parametrize(("text", "words"), [
    ("{", "not valid JSON"),
    ("{}", "JSON list of conversations"),
    ("[]", "JSON list of conversations"),
    ('[{"text": "x"}]', "entry 0 has no list"),
    ('[{"conversations": [{"value": 1}, {"value": "a"}]}]', 'needs a text "value"'),
])  # fmt: skip
def test_broken_sharegpt_files_are_user_errors(tmp_path, text, words):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        traces.sharegpt(path, encode)
    assert "broken.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def write_trace(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def entry(ms, n_in, n_out, ids=None):
    row = {"timestamp": ms, "input_length": n_in, "output_length": n_out}
    return row if ids is None else {**row, "hash_ids": ids}


def test_mooncake_times_lengths_and_shared_prefixes(tmp_path):
    path = write_trace(
        tmp_path / "t.jsonl",
        entry(2000, 40, 5, [7, 8, 9]),
        entry(1000, 60, 6, [7, 8, 10, 11]),
        entry(4000, 20, 7, [7, 8]),
        entry(4000, 20, 7),
    )
    requests, times = traces.mooncake(path, VOCAB, block_size=16, seed=1, speed=2)
    assert times == [0.0, 0.5, 1.5, 1.5]  # from the first, in order, twice as fast
    a, b, c, d = (r.prompt_token_ids for r in requests)
    assert [len(p) for p in (a, b, c, d)] == [60, 40, 20, 20]
    assert shared_prefix(a, b) == 32
    assert shared_prefix(b, c) == 20  # a cut block is a prefix of the whole one
    assert shared_prefix(c, d) < 4
    assert [r.max_tokens for r in requests] == [6, 5, 7, 7]
    cut, _ = traces.mooncake(
        path, VOCAB, n=2, block_size=16, seed=1, max_input_tokens=24, max_output_tokens=3
    )
    assert [(len(r.prompt_token_ids), r.max_tokens) for r in cut] == [(24, 3), (24, 3)]


def test_mooncake_prompts_are_the_same_in_another_process(tmp_path):
    path = write_trace(tmp_path / "t.jsonl", entry(0, 30, 5, [1, 2]))
    here = traces.mooncake(path, VOCAB, block_size=16)[0][0].prompt_token_ids
    code = (
        "import sys; from labs.serving.traces import mooncake;"
        "print(mooncake(sys.argv[1], 2048, block_size=16)[0][0].prompt_token_ids)"
    )
    there = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert json.loads(there.stdout) == here


@pytest.mark.parametrize(("text", "words"), [
    ("", "holds 0 requests"),
    ("{\n", "line 1 is not valid JSON"),
    ("[]\n", "must be a JSON object"),
    (json.dumps(entry(0, 0, 1)), "input_length must be a number from 1"),
    (json.dumps(entry(-1, 8, 1)), "timestamp must be a number from 0"),
    (json.dumps(entry(0, 8, None)), "output_length"),
    (json.dumps(entry(0, 8, float("nan"))), "output_length"),
    (json.dumps(entry(0, 17, 1, [1])), "do not cover 17 input tokens"),
    (json.dumps(entry(0, 8, 1, ["a"])), "hash_ids must be a list"),
])  # fmt: skip
def test_broken_traces_are_user_errors_with_the_line(tmp_path, text, words):
    path = tmp_path / "broken.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        traces.mooncake(path, VOCAB, block_size=16)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        traces.mooncake(tmp_path / "none.jsonl", VOCAB)
    with pytest.raises(UserError, match="cannot read"):
        traces.sharegpt(tmp_path / "none.json", encode)
