"""The load client against a server whose every byte and pause the test chooses."""

import asyncio
import itertools
import statistics
import subprocess
import sys
import threading

import pytest

from labs.cluster.processes import leftovers
from labs.core import metrics
from labs.core.errors import RunFailed, UserError
from labs.serving import arrivals, workload
from labs.serving.client import run_load
from labs.serving.sender import Plan, execute
from labs.serving.stream import EventParser
from labs.tests.sse_server import CUT, DONE, Server, Status, event, steady

VOCAB = 1000


def requests(n, output_tokens=4, **more):
    return workload.fixed(n, 8, output_tokens, VOCAB, **more)


def send(server, todo, **changes):
    """The sender in this process: what the child does, without starting one."""
    settings = {
        "url": server.url, "model": "m", "run": "test", "requests": todo, "warmup": [], "arrivals": None,
        "concurrency": None, "ignore_eos": True, "request_timeout_s": 20, "stall_timeout_s": 20,
        "extra_body": {}, "keep_ids": True,
    }  # fmt: skip
    return asyncio.run(execute(Plan(**(settings | changes))))


def one_error(script, **changes):
    with Server(script) as server:
        (row,) = send(server, requests(1), concurrency=1, **changes)["rows"]
    assert metrics.completed([row]) == []
    assert "\n" not in row["error"]
    return row["error"]


def test_events_are_found_whatever_the_reads():
    stream = (
        b": ping\n\n" + event([1, 2]) + event([3]).replace(b"\n", b"\r\n") + b"data: a\ndata: b\n\n" + DONE
    )
    whole = EventParser().feed(stream)
    assert whole == [event([1, 2])[6:-2], event([3])[6:-2], b"a\nb", b"[DONE]"]
    for size in (1, 2, 3, 7, 50):
        parser = EventParser()
        parts = [parser.feed(stream[i : i + size]) for i in range(0, len(stream), size)]
        assert [e for part in parts for e in part] == whole


def test_a_run_end_to_end_in_its_own_process():
    """Known gaps of 60 ms: the client's stamps follow the server's own."""
    lines: list[str] = []
    with Server(steady(first=0.1, gap=0.06)) as server:
        todo = requests(6, output_tokens=5)
        result = run_load(
            server.url + "/", "m", todo, arrivals=arrivals.constant(6, rate=10), run="r=10",
            warmup=requests(2, seed=9), keep_ids=True, say=lines.append,
        )  # fmt: skip
        written = server.sent_s[2:]  # after the warm-up
    assert [p["prompt"] for p in server.payloads[2:]] == [r.prompt_token_ids for r in todo]
    assert {p["temperature"] for p in server.payloads} == {0}
    assert all(p["return_token_ids"] and p["ignore_eos"] and p["stream"] for p in server.payloads)
    assert "priority" not in server.payloads[0]
    assert [row["request"] for row in result.rows] == list(range(6))
    assert [row["intended_s"] for row in result.rows] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert len(result.warmup_rows) == 2
    for row, times in zip(result.rows, written, strict=True):
        assert row["kind"] == "request"
        assert (row["run"], row["class"], row["error"]) == ("r=10", "", None)
        assert row["output_ids"] == [0, 1, 2, 3, 4]
        assert (row["output_tokens"], len(row["token_s"])) == (5, 5)
        assert row["intended_s"] <= row["sent_s"] <= row["token_s"][0] <= row["finished_s"]
        assert (metrics.ttft(row) or 0) >= 0.1
        assert row["token_s"][-1] - row["token_s"][0] == pytest.approx(times[4] - times[0], abs=0.15)
    gaps = [gap for row in result.rows for gap in metrics.itl(row)]
    assert statistics.median(gaps) == pytest.approx(0.06, abs=0.03)
    assert result.lag.n == 6
    assert result.lag.min is not None
    assert result.lag.min >= 0
    assert result.lag_p99 is None  # six requests cannot carry a p99
    assert result.loop_lag.n > 10
    assert result.busy > 0
    assert result.intended_rate == pytest.approx(10)
    assert result.achieved_rate == pytest.approx(6 / result.rows[-1]["sent_s"])
    assert result.seconds >= result.rows[-1]["finished_s"]
    assert result.failed == 0
    assert "p99 not measured" in result.line()
    assert set(result.row()) >= {"kind", "lag_p99_s", "lag_max_s", "loop_lag_p99_s", "busy"}
    assert leftovers() == []


def test_several_tokens_in_a_chunk_share_its_time_and_all_count():
    async def script(server, payload):
        yield event([1, 2])
        await asyncio.sleep(0.05)
        yield event([3]) + event([4, 5])  # two events in one read
        yield DONE

    with Server(script) as server:
        (row,) = send(server, requests(1, output_tokens=5), concurrency=1)["rows"]
    assert row["error"] is None
    assert row["output_ids"] == [1, 2, 3, 4, 5]
    first, second = sorted(set(row["token_s"]))
    assert row["token_s"] == [first, first, second, second, second]
    assert metrics.itl(row) == [second - first]


def test_an_event_split_over_packets_is_one_token_stamped_at_its_end():
    async def script(server, payload):
        data = event([7])
        yield data[:10]
        await asyncio.sleep(0.1)
        yield data[10:]
        yield event([8]) + DONE

    with Server(script) as server:
        (row,) = send(server, requests(1, output_tokens=2), concurrency=1)["rows"]
    assert (row["error"], row["output_ids"]) == (None, [7, 8])
    assert (metrics.ttft(row) or 0) >= 0.09


def test_an_open_loop_never_waits_for_earlier_requests():
    async def script(server, payload):
        await server.wait_for(5)  # a client that waited for an answer would never send the fifth
        yield event([0, 1, 2, 3]) + DONE

    with Server(script) as server:
        rows = send(server, requests(5), arrivals=[0.0, 0.01, 0.02, 0.02, 0.05])["rows"]
    assert [row["error"] for row in rows] == [None] * 5
    assert [row["intended_s"] for row in rows] == [0.0, 0.01, 0.02, 0.02, 0.05]
    assert all(row["queue_s"] == 0 for row in rows)


def test_a_cap_on_concurrency_queues_and_the_queue_is_latency_not_lag():
    with Server(steady(first=0.1)) as server:
        rows = send(server, requests(6), arrivals=[0.0] * 6, concurrency=2)["rows"]
    assert server.most_active == 2
    last = max(rows, key=lambda row: row["sent_s"])
    assert last["intended_s"] == 0
    assert last["queue_s"] >= 0.2  # two pairs before it
    assert (metrics.ttft(last) or 0) >= 0.3
    assert metrics.lag(last) <= last["sent_s"] - last["queue_s"]
    assert min(row["queue_s"] for row in rows) < 0.1


def test_a_closed_loop_keeps_its_concurrency_and_starts_as_a_worker_becomes_free():
    async def script(server, payload):
        await server.wait_for(3)  # three at once, or nothing moves
        await asyncio.sleep(0.02)
        yield event([0, 1, 2, 3]) + DONE

    with Server(script) as server:
        rows = send(server, requests(9), concurrency=3)["rows"]
    assert server.most_active == 3
    assert sorted(row["request"] for row in rows) == list(range(9))
    assert {row["client"] for row in rows} == {0, 1, 2}
    for client in range(3):
        mine = sorted((row for row in rows if row["client"] == client), key=lambda row: row["sent_s"])
        for before, after in itertools.pairwise(mine):
            assert before["finished_s"] <= after["intended_s"] <= after["sent_s"]


def test_clients_of_the_workload_are_kept_in_a_closed_loop():
    with Server(steady()) as server:
        rows = send(server, requests(6, clients=3), concurrency=2)["rows"]
    assert [row["client"] for row in rows] == [0, 1, 2, 0, 1, 2]


def test_priority_and_extra_body_are_sent():
    todo = [requests(1)[0].model_copy(update={"priority": 3, "cls": "long"})]
    with Server(steady()) as server:
        (row,) = send(server, todo, concurrency=1, extra_body={"seed": 5}, ignore_eos=False)["rows"]
    assert (server.payloads[0]["priority"], server.payloads[0]["seed"]) == (3, 5)
    assert server.payloads[0]["ignore_eos"] is False
    assert row["class"] == "long"


def scripted(*parts, status=None):
    async def script(server, payload):
        if status:
            raise Status(*status)
        for part in parts:
            yield part

    return script


@pytest.mark.parametrize(("script", "words"), [
    (scripted(status=(400, '{"error": {"message": "context\\n too long"}}')), "HTTP 400: context too long"),
    (scripted(status=(404, '{"detail": "Not Found"}')), 'HTTP 404: {"detail": "Not Found"}'),
    (scripted(status=(500, "")), "HTTP 500: Oops"),
    (scripted(event(None, "text"), DONE), "sends no token ids"),
    (scripted(event([1]), CUT), "the server closed the connection after 1 of 4 tokens"),
    (scripted(event([1]), event([2])), "the stream was cut after 2 of 4 tokens"),
    (scripted(event([1]), event([2]), DONE), "the stream ended early after 2 of 4 tokens"),
    (scripted(DONE), "the stream ended without a token"),
    (scripted(b"data: {oops\n\n", DONE), "an event is not JSON"),
    (scripted(event([1]), b'data: {"error": {"message": "died"}}\n\n'), "died after 1 of 4 tokens"),
    (scripted(b"data: [1]\n\n", DONE), "[1]"),
])  # fmt: skip
def test_what_goes_wrong_is_an_error_row_that_says_what(script, words):
    assert words in one_error(script)


def test_a_server_that_stalls_runs_into_the_stall_timeout():
    async def script(server, payload):
        yield event([1])
        await asyncio.sleep(60)

    error = one_error(script, stall_timeout_s=0.3)
    assert error == "the server sent nothing until the stall timeout after 1 of 4 tokens"
    assert one_error(steady(gap=0.2), request_timeout_s=0.3).startswith("the request timeout passed")


def test_some_failures_are_rows_and_the_run_goes_on():
    async def script(server, payload):
        if len(server.payloads) == 2:
            raise Status(503, "busy")
        yield event([0, 1, 2, 3]) + DONE

    with Server(script) as server:
        rows = send(server, requests(4), concurrency=1)["rows"]
    assert [row["error"] for row in rows] == [None, "HTTP 503: busy", None, None]
    assert rows[1]["token_s"] == []
    assert len(metrics.completed(rows)) == 3


def test_a_run_in_which_all_failed_is_a_failed_run_with_the_reason():
    with Server(steady()) as server:
        gone = server.url
    with pytest.raises(
        RunFailed, match="all 3 requests of the load run failed: cannot connect to 127"
    ) as caught:
        run_load(gone, "m", requests(3), concurrency=1, say=None)
    assert caught.value.details.startswith("3 x cannot connect")


def test_a_run_that_takes_too_long_is_ended():
    with Server(steady(first=60)) as server, pytest.raises(RunFailed, match="did not finish within 3 s"):
        run_load(server.url, "m", requests(1), concurrency=1, timeout_s=3, say=None)
    assert leftovers() == []


def test_it_may_be_called_where_an_event_loop_runs_already():
    """A notebook's kernel is such a place."""

    async def cell():
        return run_load(server.url, "m", requests(2), concurrency=2, say=None)

    with Server(steady()) as server:
        assert asyncio.run(cell()).failed == 0
        found = []
        thread = threading.Thread(target=lambda: found.append(asyncio.run(cell()).failed))
        thread.start()
        thread.join()
    assert found == [0]


def test_importing_the_client_brings_neither_torch_nor_vllm():
    code = (
        "import sys, labs.serving.client, labs.serving.traces, labs.serving.arrivals, labs.serving.results;"
        "sys.exit(sorted({'torch', 'vllm', 'transformers'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "found neither"),
    ({"concurrency": 0}, "at least 1"),
    ({"arrivals": [0.0]}, "as many arrival times, found 1"),
    ({"arrivals": [1.0, 0.0]}, "in order"),
    ({"arrivals": [0.0, float("nan")]}, "finite"),
    ({"url": "127.0.0.1:8000", "concurrency": 1}, "must start with http"),
    ({"requests": [], "concurrency": 1}, "at least one request"),
])  # fmt: skip
def test_calls_that_make_no_sense_are_user_errors(changes, words):
    settings = {"url": "http://127.0.0.1:1", "model": "m", "requests": requests(2)} | changes
    with pytest.raises(UserError, match=words) as caught:
        run_load(settings.pop("url"), settings.pop("model"), settings.pop("requests"), **settings)
    assert "\n" not in str(caught.value)
