# %% [markdown]
# # Week 5, notebook 03: Scaling benchmark
#
# **Question.** What do two and four devices bring, and where does the rest go?
#
# | | |
# |---|---|
# | Time | 60 to 90 minutes; of these the machine measures about 1 on two CPU cores, about 4 on four GPUs |
# | Devices | one is enough to see recorded runs; two or more to measure a speed-up of your own |
# | Cost | nothing on your own machine; on a rented one its price an hour, which the scoreboard takes into account |
# | You need | [tensor parallelism](../../weeks/week5/README.md#tensor-parallelism) and [the decode floor](../../weeks/week5/README.md#the-decode-floor) from the guide; notebook 01 helps |
#
# **On a CPU** this is real vLLM for the CPU with a tiny model, and a rank is a process with one thread. The notebook
# then shows how to measure scaling: no speed in it, and no speed-up, is a GPU's. Beside your run the figures draw
# recorded ones of real GPUs, dashed or pale, and labelled.

# %% tags=["parameters"]
PROFILE = "auto"
MODEL = None
TP = None

# %%
from labs import course

lab = course.open("week5/03_scaling_benchmark", profile=PROFILE, model=MODEL, tp=TP)

# %% [markdown]
# ## 1. The same work on more devices
#
# Speed-up compares the *same total load*: `S = T_1 / T_N`, or for rates `rate_N / rate_1`. Efficiency is `S / N`.
# Both mean nothing without the load, so there are three:
#
# - **saturated**: the batch stays full. Throughput counts.
# - **medium**: a quarter of that batch, or less.
# - **single**: one sequence, one token at a time. Latency counts, and the rate is that of decode alone.
#
# Four habits keep the numbers honest. Check first that TP=N computes what TP=1 computes, as notebook 01 does: a wrong
# model can be very fast. Warm up, because the first call compiles. Repeat, and look at the spread before you believe
# a difference. Take TP=1 of the same run as the baseline, never a number from another machine.
#
# A larger batch makes messages larger but not more numerous, so the fixed cost of a message is shared among more
# tokens. A single stream has nobody to share with; on the other hand it spends its time reading weights, and N
# devices read N times as fast.
#
# Two predictions about *this* machine: the speed-up of the saturated load at TP=2, and the load that gains most.

# %% grade_id="W5.N3.P1" points=1 solution=true
### BEGIN SOLUTION
speedup_at_tp2 = 1.2
because = "A second rank brings a second core, but every layer now waits twice; on GPUs I would say 1.6."
### END SOLUTION
lab.predict("W5.N3.P1", speedup_at_tp2, unit="x", because=because)

# %% grade_id="W5.N3.P2" points=1 solution=true
### BEGIN SOLUTION
# STUB: gains_most = ""  # "saturated", "medium" or "single"
# STUB: because = ""
gains_most = "saturated"
because = "The fixed cost of each message is shared among the most tokens."
### END SOLUTION
lab.predict("W5.N3.P2", gains_most, because=because)

# %% [markdown]
# ## 2. What a message costs
#
# With `L` layers each decode step issues `2·L + 1` all-reduces, one after the other
# ([why](../../weeks/week5/README.md#counting-messages)): 9 for the tiny model's four layers, 57 for the 28 of
# Qwen2.5-7B. Each takes about `alpha + beta·bytes`, a start-up time and a time for each byte. For one sequence a
# message is a few kilobytes, and alpha is nearly all there is. Count × time gives the share of communication in a
# step. It is an estimate: overlap could hide a part, and waiting for a slower rank comes on top.
#
# Predict that share for the single stream at TP=2, in per cent. Then run the measurement: one launch for each TP
# size. The ranks run the three loads on a warm engine, count the collectives of a decode step, time vLLM's own
# all-reduce at several message sizes, and copy memory to find its bandwidth. Before a time is kept, gates check that
# every call brought all its tokens, that each rank sent the expected number of all-reduces, and that their sum is
# right.

# %% grade_id="W5.N3.P3" points=1 solution=true
### BEGIN SOLUTION
share_percent = 5
because = "9 messages of some 10 µs in a step of some milliseconds, or 57 of some µs on GPUs."
### END SOLUTION
lab.predict("W5.N3.P3", share_percent, unit="%", because=because)

# %% timeout=1800
lab.measure("scaling", after="W5.N3.P3")

# %%
lab.explore("scaling", after="W5.N3.P2")

# %% [markdown]
# **Read it.** One panel a load; the bars on a point span the repeats. Where they reach across 1, no difference was
# seen. On GPUs the speed-up usually lies between 1 and N. On a CPU it hangs on the cores: a second rank may bring a
# second core, and a large batch has work for it; where something else needs that core, the ranks only wait for each
# other, and TP=2 is slower than TP=1.
#
# Then compare the panels. The saturated load usually gains most; the order of the other two is not obvious, because
# a single stream is the purest memory problem and a medium load is neither that nor a full batch. If two ranges
# overlap, you have no order.
#
# The claim of the source document (450, 800 and 1,400 tok/s) names neither batch nor lengths. Switch to
# *throughput*: tokens per second of different loads, models and machines must not be compared. Ratios may be, with
# care: the same `S` can come from a fast link or from a slow device whose work hides a slow link.
#
# Next, one decode step of the single stream. The black mark is a perfect division, the step of TP=1 divided by N.

# %%
lab.figure("step", after="W5.N3.P3")

# %% [markdown]
# **Read it.** Everything above the black mark is the loss. If the all-reduces cover it, faster messages are the
# remedy: a better link, a custom all-reduce, a larger batch. If they cover a third, two thirds of the loss stay on
# an infinitely fast link. Count × time knows only messages whose ranks start together. In a real step a rank may
# first wait for another; that waiting stands in "the rest", and on shared cores it can be most of it.
#
# **Exercise C1.** Write the share of communication as a function. **Exercise C2.** Write the model behind the next
# figure. In a ring, a message of `size` bytes is cut into N parts; a reduce-scatter and an all-gather of `N − 1`
# steps each send one part a step. So each rank sends `ring_bytes`, and every one of the `2·(N − 1)` steps pays
# `alpha`.

# %% grade_id="W5.N3.C1" points=1 solution=true
def communication_share(layers: int, all_reduce_s: float, step_s: float) -> float:
    "Share of a decode step, between 0 and 1, that its all-reduces take."
    ### BEGIN SOLUTION
    return (2 * layers + 1) * all_reduce_s / step_s
    ### END SOLUTION


lab.check("W5.N3.C1", communication_share)

# %% grade_id="W5.N3.C2" points=2 solution=true
def ring_bytes(size: float, ranks: int) -> float:
    "Bytes that each rank sends in a ring all-reduce of `size` bytes."
    ### BEGIN SOLUTION
    return 2 * (ranks - 1) / ranks * size
    ### END SOLUTION


def all_reduce_s(size: float, ranks: int, alpha_s: float, bytes_per_s: float) -> float:
    "Seconds of that all-reduce: every step pays alpha, and the bytes pay the bandwidth."
    ### BEGIN SOLUTION
    return 2 * (ranks - 1) * alpha_s + ring_bytes(size, ranks) / bytes_per_s
    ### END SOLUTION


lab.check("W5.N3.C2", [ring_bytes, all_reduce_s])

# %%
lab.explore("messages", after="W5.N3.P3")

# %% [markdown]
# **Fit it.** The flat left end is set by alpha, the steep right end by the bandwidth. Move both until the sentence
# says that the line misses by less than a factor of 1.5, or until you know why it cannot. If there is a TP=4, keep
# your two numbers and switch: a ring predicts three times the start-up and 1.5 times the bytes. Does it hold? The
# table names what carried the bytes, and a custom all-reduce or shared memory is no ring.
#
# ## 3. The floor
#
# To decode one token of one sequence, each rank reads all its weights once. With `B` bytes of weights and bandwidth
# `W` on each of N devices no step is faster than `B / (N·W)`, whatever the software. The measured step is this floor
# plus everything else: bandwidth that no kernel reaches, gaps between kernels, attention, sampling, scheduling,
# messages.
#
# `B` counts what a step reads (an embedding table only if it is the output head too), and `W` comes from a large
# copy on rank 0. Predict how many times the floor a step of the single stream takes at TP=1.

# %% grade_id="W5.N3.P4" points=1 solution=true
### BEGIN SOLUTION
times_the_floor = 5
because = "The tiny model's step is overhead from end to end; for 7 billion parameters I would say 1.5."
### END SOLUTION
lab.predict("W5.N3.P4", times_the_floor, unit="x", because=because)

# %%
lab.figure("floor", after="W5.N3.P4")

# %% [markdown]
# **Read it.** Compare the parts above the floor. If they stay constant as N grows, something does not split. If they
# grow, messages or waiting grow faster than anything shrinks. With some billion parameters on a GPU the ratio at
# TP=1 is small, because reading is most of the step; a tiny model's step is mostly something else. On a CPU the
# floor is no law: weights that fit a cache are not read from memory, and ranks share one memory bus.
#
# **Explain E1.** Your manager sees that a single stream does not run four times as fast on four GPUs, and wants links
# that are twice as fast. Take three numbers of a recorded run at TP=4 from the table under "Where a
# decode step goes": perfect step, measured step, and count × time. What can the links buy at most, and
# what can they not?

# %% grade_id="W5.N3.E1" solution=true
### BEGIN SOLUTION
# STUB: answer = ""  # three or four sentences, with numbers
answer = (
    "On 4x H200 the messages take 57 x 4.4 µs = 0.25 ms of a step of 2.53 ms. If the links halved all of it, the "
    "step would take 2.41 ms, 5 % less. Even free messages leave 2.28 ms, still 1.1 ms above the perfect step of "
    "1.20 ms. And small messages pay mostly alpha, which more bandwidth does not lower. The rest does not split: "
    "gaps between kernels, norms, sampling, the scheduler on the host."
)
### END SOLUTION
lab.explain("W5.N3.E1", answer)

# %% [markdown]
# ## 4. The serial fraction
#
# Suppose a fraction `e` of the work does not split and the rest splits perfectly. Then `1/S = e + (1 − e)/N`. Karp
# and Flatt solve this for `e`:
#
# ```
# e = (1/S − 1/N) / (1 − 1/N)
# ```
#
# One value is efficiency in another dress. Two values, at TP=2 and TP=4, tell causes apart: a constant `e` means a
# fixed part, a growing one an overhead that grows with N. It cannot tell serial work from a message that takes
# equally long at every size.
#
# **Exercise C3.** Write `karp_flatt`, then read the figure: which panel's `e` grows from TP=2 to TP=4? Above 1, work
# was added; below 0, the speed-up is superlinear, and a cache or a KV cache too small at TP=1 is the usual reason.
# If your own values dwarf the recorded ones, cut the axis.

# %% grade_id="W5.N3.C3" points=2 solution=true
def karp_flatt(speed: float, ranks: int) -> float:
    "The serial fraction that explains speed-up `speed` on `ranks` (two or more) devices."
    ### BEGIN SOLUTION
    return (1 / speed - 1 / ranks) / (1 - 1 / ranks)
    ### END SOLUTION


lab.check("W5.N3.C3", karp_flatt)

# %%
lab.explore("serial", after="W5.N3.P1")

# %% [markdown]
# ## 5. What it costs
#
# A million output tokens cost `price · N / 3600 / (tok/s) · 10⁶`, with the price of one device an hour. Between two
# TP sizes on one load the price cancels, and the ratio is `N / S`: the inverse of efficiency. Below 100 % every
# token gets dearer with TP. What you buy is lower latency, or room for a model or a KV cache that one device cannot
# hold. If the model fits one device and only throughput counts, N independent replicas send no messages at all.
#
# **Question Q1.** At TP=4 a load speeds up 2.56 times. How many times dearer is a token than at TP=1?

# %% grade_id="W5.N3.Q1" points=1 solution=true
### BEGIN SOLUTION
times_dearer = 4 / 2.56
### END SOLUTION
lab.check("W5.N3.Q1", times_dearer)

# %%
lab.explore("cost", after="W5.N3.P1")

# %% [markdown]
# ## 6. Drill: a rank dies, and what remains
#
# Two ranks add up a tensor. Rank 1 is killed in the middle, and rank 0 waits in the next all-reduce for a partner
# that no longer exists. Who notices, and what does the first line say? Decide before you run the cell.
#
# Afterwards: the rank that complains is often not the one that failed, because all it sees is a closed connection.
# Look for the first death, not for the loudest traceback. A collective does not know that its partner is dead, so
# something outside has to watch. In a real sweep no Record would be written: a sweep with a hole is no sweep.
#
# The scoreboard then shows your predictions beside the measurements, what the run cost, and the processes that are
# left, of which there should be none. Enter this machine's price an hour if you pay for it, and
# [end it when you are done](../../weeks/week5/README.md#cost-and-teardown). Which prediction was furthest off, and
# what did you not know when you made it?

# %% timeout=180
lab.drill("dead_rank")

# %%
lab.scoreboard(price_per_hour=None)
