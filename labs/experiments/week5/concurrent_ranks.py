"""What runs in each rank of the concurrency experiment: the batch without a server."""

from labs.cluster.rank import RankContext
from labs.core.record import Row


def offline(ctx: RankContext) -> list[Row]:
    """Rows `offline` of rank 0: the same requests handed to the engine at once, after a warm-up call."""
    from labs.serving.engine import EngineConfig, open_engine, timed_generate
    from labs.serving.workload import Request

    engine = EngineConfig.model_validate(ctx.config["engine"])
    requests = [Request.model_validate(request) for request in ctx.config["requests"]]
    llm = open_engine(engine)
    prompts = [request.prompt_token_ids for request in requests]
    (tokens,) = {request.max_tokens for request in requests}  # one length: a batch that ends together
    timed = timed_generate(llm, prompts, tokens, repeats=ctx.config["repeats"])
    return [{"kind": "offline", "tp": engine.tp, **row} for row in timed] if ctx.rank == 0 else []
