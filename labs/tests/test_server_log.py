"""Why a server died, from excerpts of logs that vLLM wrote."""

from labs.serving.server_log import reason, tail

CORE = "(EngineCore pid=25510) ERROR 11-20 09:24:13 [core.py:1510] "
API = "(APIServer pid=30207) ERROR 11-20 09:31:57 [async_llm.py:906] "

ENGINE_FAILED = f"""\
(APIServer pid=25400) WARNING 11-20 09:24:01 [base.py:380] ValueError: Tokenizer not available
{CORE}EngineCore failed to start.
{CORE}Traceback (most recent call last):
{CORE}  File "vllm/v1/engine/core.py", line 326, in _initialize_kv_caches
{CORE}    raise ValueError(
{CORE}ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.
Process EngineCore:
Traceback (most recent call last):
ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}
"""

WORKERS_FAILED = """\
(Worker_TP1 pid=12) ERROR 11-20 09:24:13 [executor.py:860] WorkerProc failed to start.
(Worker_TP1 pid=12) ERROR 11-20 09:24:13 [executor.py:860] Traceback (most recent call last):
(Worker_TP1 pid=12) ERROR 11-20 09:24:13 [executor.py:860] torch.OutOfMemoryError: CUDA out of memory.
(Worker_TP0 pid=11) ERROR 11-20 09:24:14 [executor.py:860] RuntimeError: Connection closed by peer
(EngineCore pid=10) ERROR 11-20 09:24:15 [core.py:1510] Exception: WorkerProc initialization failed due to \
an exception in a background process. See stack trace for root cause.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""

WORKER_KILLED = f"""\
(EngineCore pid=30329) ERROR 11-20 09:31:57 [executor.py:315] Worker proc VllmWorker-0 died unexpectedly \
(exit code: -9), shutting down executor.
(EngineCore pid=30329) ERROR 11-20 09:31:57 [dump_input.py:72] Dumping input data for V1 LLM engine (v0.32.0)
(EngineCore pid=30329) ERROR 11-20 09:31:57 [core.py:1510] RuntimeError: Executor failed.
{API}vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above).
"""

ENGINE_KILLED = f"""\
(APIServer pid=24909) WARNING 11-20 09:23:43 [core_client.py:817] [shutdown] MPClient: engine core exited \
unexpectedly; starting cleanup
{API}Traceback (most recent call last):
{API}vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above).
INFO:     Finished server process [24909]
nanobind: leaked 514 functions!
 - leaked function "create_extract_slice"
"""

INVALID = """\
Traceback (most recent call last):
  File "vllm/config/model.py", line 11, in create
pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, max_model_len (999999) is greater than the derived max_model_len. Set a variable. [type=v]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""


def test_the_engine_core_says_it_not_the_server() -> None:
    assert reason(ENGINE_FAILED) == (
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`."
    )


def test_of_two_workers_the_first_to_fail_counts() -> None:
    assert reason(WORKERS_FAILED) == "OutOfMemoryError: CUDA out of memory."


def test_a_killed_worker_is_named() -> None:
    assert reason(WORKER_KILLED) == (
        "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor."
    )


def test_a_killed_engine_left_no_words() -> None:
    assert "engine core ended without an error of its own" in (reason(ENGINE_KILLED) or "")


def test_settings_that_vllm_refuses() -> None:
    assert (reason(INVALID) or "").startswith("ValidationError: max_model_len (999999) is greater than")
    assert "[type=" not in (reason(INVALID) or "")
    usage = "usage: api_server.py [-h]\napi_server.py: error: unrecognized arguments: --no-such-flag\n"
    assert reason(usage) == "unrecognized arguments: --no-such-flag"


def test_long_advice_is_cut_after_a_sentence() -> None:
    text = "ValueError: " + "Something is wrong. " * 40
    found = reason(text) or ""
    assert len(found) <= 300
    assert found.endswith("Something is wrong.")


def test_a_log_without_an_error_has_no_reason() -> None:
    assert reason("INFO:     Started server process [1]\n\n") is None
    assert reason("(EngineCore pid=1) ERROR 11-20 09:24:13 [core.py:1] it went wrong\n") == "it went wrong"


def test_the_tail_leaves_out_what_says_nothing() -> None:
    assert tail(ENGINE_KILLED, 1) == "INFO:     Finished server process [24909]"
