# %% [markdown]
# # Week 5, notebook 01: Tensor-parallel setup
#
# **Question.** Does the model load at every size, does each rank hold its part, and is it still the same model?
#
# | | |
# |---|---|
# | Time | 45 to 60 minutes; of these the machine measures about 1.5 on two CPU cores, about 5 on four GPUs |
# | Devices | one is enough; with two or more GPUs every size is loaded |
# | Cost | nothing on your own machine; on a rented one its price an hour, which the scoreboard takes into account |
# | You need | [tensor parallelism](../../weeks/week5/README.md#tensor-parallelism) and [counting messages](../../weeks/week5/README.md#counting-messages) from the guide |
#
# **On a CPU** this is real vLLM for the CPU with a tiny model, and every rank is a process. Shards, heads and
# log-probabilities are as real as on a GPU; no time and no speed here is a GPU's. Runs of real GPUs are drawn beside
# yours and labelled as recorded.
#
# The same experiment is a command: `python -m labs tensor-parallel --tp 1 2 --out r.json`.

# %% tags=["parameters"]
PROFILE = "auto"
MODEL = None
TP = None

# %%
from labs import course

lab = course.open("week5/01_tensor_parallel_setup", profile=PROFILE, model=MODEL, tp=TP)

# %% [markdown]
# ## 1. What starting costs
#
# Before the first token, every rank is a process that imports torch and vLLM, reads its part of the weights, sets
# memory aside for the KV cache and, on a GPU, compiles and records CUDA graphs. The ranks wait for each other along
# the way. None of this is in the tokens per second that people quote. You pay for it when a server restarts, when an
# autoscaler adds one, or when a sweep starts an engine for every setting; the lab starts each size once for that
# reason.
#
# Predict how many times longer start-up (imports plus engine) takes at the largest TP of this run than the four
# sample answers that follow it.

# %% grade_id="W5.N1.P1" points=1 solution=true
### BEGIN SOLUTION
times_the_answers = 30
because = "Imports and engine take some ten seconds, four short answers take some tenths."
### END SOLUTION
lab.predict("W5.N1.P1", times_the_answers, unit="x", because=because)

# %% [markdown]
# ## 2. Who holds what
#
# Tensor parallelism does not deal out layers; it cuts the matrices inside every layer. For `Y = X·W` a
# **column-parallel** layer gives each rank some columns of `Y`, without a message. A **row-parallel** layer takes
# those columns as its input and produces a partial sum of all of `Y`; one all-reduce adds the parts. Attention is
# column (query, key, value) and then row (output). The feed-forward block is column (gate, up) and then row (down).
# Embedding and output head are cut by token id. Norms are too small to cut, so every rank keeps a copy.
#
# PyTorch stores a linear weight as `[out, in]`. Cutting columns of the formula therefore means cutting *rows* of the
# tensor, dim 0.
#
# **Heads.** Attention is cut by head, never through one, because a head's softmax needs all of its dimensions. So TP
# must divide the query heads. With grouped-query attention several query heads share one key/value (KV) head. While
# TP divides the KV heads, each rank stores its share of the KV cache. A larger TP must be a multiple of their number;
# then each KV head lives on several ranks, and more ranks no longer shrink what a token takes on each.
#
# Two predictions: of all weight bytes of TP=1, how many per cent does rank 1 hold at TP=2? And how many times the
# tokens of TP=1 fit the KV cache of the whole engine at the largest TP of this run? A claim says that four GPUs
# bring four times the memory.

# %% grade_id="W5.N1.P2" points=1 solution=true
### BEGIN SOLUTION
percent_of_weights = 50.1
because = "Half of everything that is cut, plus all of the norms."
### END SOLUTION
lab.predict("W5.N1.P2", percent_of_weights, unit="%", because=because)

# %% grade_id="W5.N1.P3" points=1 solution=true
### BEGIN SOLUTION
times_the_tokens = 2
because = "Each rank brings a cache of its own; on GPUs it also gains the room of the weights it gave away."
### END SOLUTION
lab.predict("W5.N1.P3", times_the_tokens, unit="x", because=because)

# %% timeout=900
lab.measure("engines", after="W5.N1.P3")

# %%
lab.figure("start", after="W5.N1.P1")

# %% [markdown]
# **Read it.** The number on a bar is start-up over answers. A second rank does not halve start-up: each process
# imports everything, and only the reading of weights is shared out. Which part would a larger model lengthen? Which
# would stay if the model had no weights at all?
#
# Next, the weights of one rank by the way in which they are cut, and then the pieces themselves. Turn to `o_proj`,
# `embed_tokens` and a norm, and to TP=4 if a run here has it. A gate has already checked that the pieces of all ranks
# add up to every whole weight.

# %%
lab.figure("holdings", after="W5.N1.P2")
lab.explore("shards", after="W5.N1.P2")

# %% [markdown]
# **Read it.** A rank holds slightly more than `1/N`: what is replicated counts fully everywhere, so the share is
# `1/N + (1 − 1/N) · replicated share`. Norms are a tiny part. A clearly larger share has another cause: a padded
# vocabulary, copied KV heads, or a layer that was not cut at all.
#
# In `qkv_proj` vLLM stacks three matrices to multiply once. Each is cut by itself, so a rank's piece of the stack is
# not one block: it needs query heads *and* the KV heads that belong to them.
#
# **Exercise C1.** Cut one matrix (a NumPy array `[out, in]`) for a rank. Refuse with a `ValueError` what does not
# divide. **Exercise C2.** Which KV heads does a rank hold? Rank `r` of `N` has the query heads `r·H/N` up to but not
# including `(r + 1)·H/N`; each group of `H / kv_heads` neighbours shares a KV head. Refuse sizes that fit neither
# way. **Question Q2.** Which TP sizes fit 28 query heads, 4 KV heads and a feed-forward width of 18,944?

# %% grade_id="W5.N1.C1" points=2 solution=true
def shard(weight, rank: int, ranks: int, kind: str):
    "This rank's block of `weight`; `kind` is 'column' or 'row' (parallel)."
    ### BEGIN SOLUTION
    size = weight.shape[0] if kind == "column" else weight.shape[1]
    if size % ranks:
        raise ValueError(f"{size} does not divide by {ranks}")
    block = slice(rank * size // ranks, (rank + 1) * size // ranks)
    return weight[block] if kind == "column" else weight[:, block]
    ### END SOLUTION


lab.check("W5.N1.C1", shard)

# %% grade_id="W5.N1.C2" points=2 solution=true
def kv_heads_of(rank: int, ranks: int, heads: int, kv_heads: int) -> list[int]:
    "Numbers of the KV heads that this rank holds, ascending."
    ### BEGIN SOLUTION
    if heads % ranks or (kv_heads % ranks and ranks % kv_heads):
        raise ValueError(f"{heads} heads and {kv_heads} KV heads do not split over {ranks} ranks")
    group = heads // kv_heads
    first, end = rank * heads // ranks, (rank + 1) * heads // ranks
    return sorted({head // group for head in range(first, end)})
    ### END SOLUTION


lab.check("W5.N1.C2", kv_heads_of)

# %% grade_id="W5.N1.Q2" points=1 solution=true
### BEGIN SOLUTION
fitting_sizes = [1, 2, 4]
### END SOLUTION
lab.check("W5.N1.Q2", fitting_sizes)

# %%
lab.figure("capacity", after="W5.N1.P3")

# %% [markdown]
# **Read it.** On a GPU, vLLM gives the KV cache what weights and work space leave of its share of the memory.
# Smaller weights leave more, so the ratio can exceed N, and the claim of four times is too modest there. On a CPU the
# course gives every rank a cache of the same fixed size, so no more than N can come out. The table shows why the
# tokens multiply at all: the bytes of a token on one rank shrink with its KV heads. From the TP at which heads are
# copied, they stop shrinking.
#
# ## 3. What "about equal" means
#
# A common check says that all GPUs should show about equal memory. It is true and weak. vLLM fills every GPU up to
# `gpu_memory_utilization`, so the totals come out equal by design, even if a layer is replicated by mistake. On a CPU
# every process carries interpreter and libraries, which outweigh the tiny model many times. The number that answers
# the question is the weight bytes of each rank. Call ranks equal when (largest − smallest) / mean is within a few per
# cent; the run uses 5 %.
#
# Predict the memory in use of one rank at the largest TP (its GPU as NVML reports it, or its process on a CPU), in
# per cent of TP=1.

# %% grade_id="W5.N1.P4" points=1 solution=true
### BEGIN SOLUTION
percent_in_use = 100
because = "The cache takes what the weights give up, or the libraries outweigh them."
### END SOLUTION
lab.predict("W5.N1.P4", percent_in_use, unit="%", because=because)

# %%
lab.explore("memory", after="W5.N1.P4")

# %% [markdown]
# **Read it.** The table gives each part's spread and verdict. Compare two sizes: does the total follow the weights?
# Then show *weights only*. The verdict on the split comes from there; the total is worth a look for something else.
# A rank that stands out usually shares its GPU with somebody, and what was in use before the engine shows how much.
# Unequal totals do not mean that TP must match the number of GPUs; a GPU without a rank is simply idle.
#
# ## 4. Is it still the same model?
#
# A split that is wrong in one place often still writes fluent text, so correctness comes before timing. Two runs are
# compared by the log-probabilities that they give to the same tokens, not by their text: floating-point addition is
# not associative, a row-parallel layer adds in another order, and a near tie between two tokens can then fall the
# other way. In bf16 a correct split differs from the unsplit model about as much as bf16 differs from float32. A
# wrong one differs by whole units.
#
# The measurement has `transformers` write a greedy continuation in float32 and score it again in bf16: that
# difference is the noise of bf16. vLLM then scores the same tokens at every size, and the gate lets its mean
# difference be three times the noise. On a GPU the engine computes in bf16. On a CPU it computes in float32, so
# that every size writes exactly the same greedy tokens (the card counts them); expect differences far below the
# tolerance there. Dummy weights are drawn shard by shard and differ between sizes, so with them the tiny model is
# compared.
#
# Predict the largest difference of one token's log-probability between TP=1 and the largest TP, in nats.

# %% grade_id="W5.N1.P5" points=1 solution=true
### BEGIN SOLUTION
largest_nats = 1e-5
because = "Sums of some hundred float32 terms in another order; in bf16 I would say 0.05."
### END SOLUTION
lab.predict("W5.N1.P5", largest_nats, unit="nats", because=because)

# %% timeout=900
lab.measure("agreement", after="W5.N1.P5")
lab.figure("differences", after="W5.N1.P5")

# %% [markdown]
# **Read it.** The axis is logarithmic; tokens without any difference stand at 0. The black bar is the mean, the green
# one what the gate allows for it. Compare three rows: bfloat16's noise, vLLM against `transformers`, and the larger
# TP against TP=1. On average the last should be about as large as the second or smaller; a single token may be
# further off. If all greedy tokens agree as well, no near tie occurred on these prompts, which is a property of the
# prompts and no guarantee.
#
# ## 5. How many messages
#
# Each layer ends both of its halves with a row-parallel matrix, so it asks for two all-reduces; the embedding asks
# for one more. The logits need one all-gather. In a decode step an all-reduce carries `sequences × hidden size ×
# bytes of an element`. These messages are small and numerous, and each waits for the slowest rank: the shape of the
# cost that notebook 03 measures.
#
# **Exercise C3.** All-reduces of one step. **Question Q1.** Bytes of one all-reduce when 256 sequences decode with
# hidden size 3,584 in bf16 at TP=4. **Explain E1.** A colleague concludes from equal numbers in `nvidia-smi` that TP
# works. What would you look at instead, and what would it show if the output projection were replicated by mistake?

# %% grade_id="W5.N1.C3" points=1 solution=true
def all_reduces(layers: int, ranks: int) -> int:
    "All-reduces that one rank takes part in during a step."
    ### BEGIN SOLUTION
    return 0 if ranks == 1 else 2 * layers + 1
    ### END SOLUTION


lab.check("W5.N1.C3", all_reduces)

# %% grade_id="W5.N1.Q1" points=1 solution=true
### BEGIN SOLUTION
message_bytes = 256 * 3584 * 2
### END SOLUTION
lab.check("W5.N1.Q1", message_bytes)

# %% grade_id="W5.N1.E1" solution=true
### BEGIN SOLUTION
# STUB: answer = ""  # two or three sentences
answer = (
    "Equal totals are by design: each GPU is filled with KV cache. I would compare the weight bytes of each rank with "
    "1/N of TP=1, weight by weight. With a replicated output projection every rank would hold equally much, but more "
    "than 1/N: o_proj would appear as replicated, with its whole shape on each rank, and fewer KV tokens would fit. "
    "The log-probabilities alone need not show it, since a copied layer can compute the right sum."
)
### END SOLUTION
lab.explain("W5.N1.E1", answer)

# %% [markdown]
# ## 6. Drill: three ranks
#
# Ask for TP=3. At which point does it fail: before any process starts, while weights load, or in the first forward
# pass? Decide before you run the cell.
#
# Afterwards: one line, no process, nothing to clean up; on the command line the exit code is 2. vLLM would have
# refused as well, but only after its imports and with a traceback. A check that costs nothing belongs before the one
# that costs a minute.
#
# The scoreboard shows your predictions beside the measurements, what the run cost, and processes that are left, of
# which there should be none. Enter this machine's price an hour if you pay for it, and
# [end it when you are done](../../weeks/week5/README.md#cost-and-teardown). If something failed on the way, see the
# guide's [troubleshooting](../../weeks/week5/README.md#troubleshooting).

# %%
lab.drill("indivisible")
lab.scoreboard(price_per_hour=None)
