# %% [markdown]
# # Week 5, notebook 02: Concurrent requests
#
# **Question.** What does a client feel as load grows, is the scheduler fair, and how far is a server under load from
# an offline batch?
#
# | | |
# |---|---|
# | Time | 60 to 90 minutes; of these the machine measures about 2 on two CPU cores, about 8 on a GPU |
# | Devices | one; more if the model does not fit one |
# | Cost | nothing on your own machine; on a rented one its price an hour, which the scoreboard takes into account |
# | You need | [prefill, decode and continuous batching](../../weeks/week5/README.md#prefill-decode-and-continuous-batching) and [the words for latency](../../weeks/week5/README.md#the-words-for-latency) from the guide |
#
# **On a CPU** this is real vLLM for the CPU with a tiny model, behind its real HTTP server, with real streaming
# clients. Queues, limits and fairness behave as they do on a GPU; no speed in this notebook is a GPU's.

# %% tags=["parameters"]
PROFILE = "auto"
MODEL = None
TP = None

# %%
from labs import course

lab = course.open("week5/02_concurrent_requests", profile=PROFILE, model=MODEL, tp=TP)

# %% [markdown]
# ## 1. Two times in one request
#
# *Prefill* reads the whole prompt at once and yields the first token. The time until then, any wait in a queue
# included, is **TTFT**: users feel it as a pause. *Decode* yields one token a step. **TPOT** is the mean time of a
# token after the first, `(E2E − TTFT) / (n − 1)`: users feel it as reading speed. **ITL** is each single gap, pooled
# over requests. Its median resembles TPOT; its tail shows stalls, which TPOT averages away.
#
# All times count from the moment at which the request *should* have been sent. And every percentile needs samples: a
# p99 of 20 requests is their maximum under another name, so here it reads "not measured".
#
# **Exercise C1.** Write `percentile(samples, p)` that knows its n. Sort a copy, take position `(n − 1)·p/100`,
# interpolate between its two neighbours; return `None` when `n < 100 / min(p, 100 − p)`.
#
# Then predict, for one client and nothing else running, TTFT divided by TPOT. `lab.measure("server")` starts one
# server and sends it five kinds of load from a process of their own: requests one at a time, 1 to N clients that
# each wait for their answer, arrivals at a given rate, a few unequal clients, and one batch at once.

# %% grade_id="W5.N2.C1" points=2 solution=true
def percentile(samples: list[float], p: float) -> float | None:
    "Percentile p of the samples, or None if none of them lies beyond it."
    ### BEGIN SOLUTION
    if not samples or len(samples) < 100 / min(p, 100 - p) - 1e-9:
        return None
    values = sorted(samples)
    position = (len(values) - 1) * p / 100
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)
    ### END SOLUTION


lab.check("W5.N2.C1", percentile)

# %% grade_id="W5.N2.P1" points=1 solution=true
### BEGIN SOLUTION
ttft_over_tpot = 4
because = "A short prefill costs about one step; HTTP, tokenising and scheduling come on top."
### END SOLUTION
lab.predict("W5.N2.P1", ttft_over_tpot, unit="x", because=because)

# %% timeout=1800
lab.measure("server", after="W5.N2.P1")

# %% [markdown]
# **Read it.** The card shows your first number and what was sent; latencies wait for your other predictions. Alone,
# TTFT holds one prefill and the way through HTTP, tokenising and scheduling. On a small model the fixed part
# outweighs the prompt. TPOT is one decode step plus the way back; on a GPU its floor is
# [the time to read all weights](../../weeks/week5/README.md#the-decode-floor).
#
# Look at the last columns, too: how late the *client* was. If it woke 50 ms late, a TTFT of 20 ms from that run
# means little, and its tail means nothing.
#
# ## 2. More clients
#
# A decode step reads every weight, however many sequences take part. With 8 sequences the same reading yields 8
# tokens, so throughput rises almost for free, until something else fills up: arithmetic, KV memory, the scheduler's
# slots (`max_num_seqs`), or the CPU that runs scheduler and HTTP. *Continuous batching* makes this work with
# requests that come and go. Here each client sends, waits for its whole answer, and sends again: a **closed loop**.
#
# Predict the output tokens per second at the largest number of clients, relative to one client.

# %% grade_id="W5.N2.P2" points=1 solution=true
### BEGIN SOLUTION
growth = 10
because = "It doubles with the clients at first; then the slots are taken and the rest only queues."
### END SOLUTION
lab.predict("W5.N2.P2", growth, unit="x", because=because)

# %%
lab.explore("sweep", after="W5.N2.P2")

# %% [markdown]
# **Read it.** Both axes are logarithmic; on the dotted line each client adds as much as the first did. Where the
# curve leaves it, clients start to share. The **knee** here is the point with the most requests per second for each
# second of median E2E (Kleinrock's *power*). Left of it, a client adds throughput and little latency; right of it,
# mostly latency. Servers are run a little to the left.
#
# Turn the latency and its percentile. Past the vertical line, where the scheduler's slots end, TTFT takes most of what
# a further client costs and TPOT little: requests wait in the queue and are left alone once they run. TTFT may climb
# long before. Clients with equally long answers finish in the same step and send their next prompts together, so
# each waits for all of these prefills. A ratio far below the number of clients does not mean that batching failed; on
# a few cores, clients, HTTP server and engine share what there is. The table names the TP size, because a machine may
# have more GPUs than the run used.
#
# **Little's law** asks nothing about schedulers: mean number inside = arrival rate × mean time inside. In a closed
# loop without pauses the number inside is the number of clients. The table has the product `requests/s × mean E2E`
# beside the clients. It falls short when not all clients were busy, as at the start and the end of a short run; a
# product that is *above* the clients would expose a faulty measurement.
#
# **Question Q1.** 32 clients in a closed loop get 7,302 tokens/s, 64 tokens an answer. How long is the mean E2E, in
# milliseconds?

# %% grade_id="W5.N2.Q1" points=1 solution=true
### BEGIN SOLUTION
mean_e2e_ms = 32 / (7302 / 64) * 1000
### END SOLUTION
lab.check("W5.N2.Q1", mean_e2e_ms)

# %% [markdown]
# ## 3. Users do not wait for each other
#
# In an **open loop** requests arrive on a schedule, here with exponential gaps (Poisson). Such arrivals cluster: at
# the same mean rate some seconds bring twice as many. Below capacity a queue forms and drains. Towards capacity
# queues grow much faster than the load; above it they grow for as long as the run lasts. A closed loop never shows
# this, because a slow server throttles its own clients.
#
# The client can lie about it. Suppose it is busy and sends a request 200 ms late. If the clock starts at the send,
# the delay vanishes, and the most loaded moments look best. This is **coordinated omission**. The cure is a clock
# that starts at the *intended* send, and a client that reports its own lag.
#
# **Exercise C2.** Write the schedule: `send_times(gaps)`, seconds from the start, where the first request goes out
# after the first gap; and `late_by(intended, sent)`, how late each request was.
#
# Then predict the median TTFT at the highest rate of the sweep (1.5 times the best throughput of section 2, unless
# the settings say otherwise), relative to the lowest rate.

# %% grade_id="W5.N2.C2" points=2 solution=true
def send_times(gaps: list[float]) -> list[float]:
    "Intended send times of an open loop with these gaps."
    ### BEGIN SOLUTION
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    return times
    ### END SOLUTION


def late_by(intended: list[float], sent: list[float]) -> list[float]:
    "How late each request was sent, seconds."
    ### BEGIN SOLUTION
    return [b - a for a, b in zip(intended, sent, strict=True)]
    ### END SOLUTION


lab.check("W5.N2.C2", [send_times, late_by])

# %% grade_id="W5.N2.P3" points=1 solution=true
### BEGIN SOLUTION
ttft_growth = 20
because = "Above capacity a third of the requests pile up, and TTFT becomes their queue."
### END SOLUTION
lab.predict("W5.N2.P3", ttft_growth, unit="x", because=because)

# %%
lab.explore("goodput", after="W5.N2.P3")
lab.explore("curve", after="W5.N2.P3")

# %% [markdown]
# **Read it.** Below the knee TTFT is a prefill; above it TTFT is queue, and its value depends on how long you let
# the run go. So "TTFT at 1.5 times capacity" is no property of a server. **Goodput** is: the requests per second
# that meet every limit. Move both limits. With generous ones goodput follows the dotted line up to capacity. With
# tight ones it peaks earlier and then falls, while the server is busier than ever, working on answers that come too
# late.
#
# Switch the clock to *actual*. What TTFT loses is what a careless client leaves out; the sentence says how large it
# can be. If the lag is not small against the latency, the machine has too few cores for clients and server together,
# and the honest remedy is a lower rate or another machine, not another clock.
#
# The second figure puts both loops on one plane. In E2E they may agree closely up to the knee; at the right edge the
# closed loop stops, because its clients do, and the open loop goes straight up. Now turn to TTFT and to TPOT. Where
# the closed loop's clients march in step, its prompts arrive in herds: a high TTFT, then undisturbed decoding. Poisson
# arrivals come one by one: a low TTFT, but each prefill holds up the answers that are being decoded.
#
# **Exercise C3.** Write `goodput(rows, ttft_s, tpot_s, seconds)`. Each row has `ttft`, `tpot` (`None` for an answer
# of one token) and `error` (`None`, or one line).

# %% grade_id="W5.N2.C3" points=2 solution=true
def goodput(rows: list[dict], ttft_s: float, tpot_s: float, seconds: float) -> float:
    "Requests per second that ended well and met both limits."
    ### BEGIN SOLUTION
    good = [
        row
        for row in rows
        if not row["error"] and row["ttft"] <= ttft_s and (row["tpot"] is None or row["tpot"] <= tpot_s)
    ]
    return len(good) / seconds
    ### END SOLUTION


lab.check("W5.N2.C3", goodput)

# %% [markdown]
# ## 4. Is it fair?
#
# **Slowdown** is E2E under load divided by E2E alone: 3 means three times as long as undisturbed. Jain's index over
# the shares `x = 1/slowdown`, `(Σx)² / (n·Σx²)`, is 1 if all suffer alike and 1/n if one gets everything. Over raw
# latency it would call a long answer unfair for being long.
#
# One client sends a burst, all at once. A few polite ones send now and then while the burst drains. All requests are
# equally long. vLLM's scheduler serves in order of arrival and knows no clients.
#
# **Exercise C4.** Write `jain(shares)`. Then predict the median slowdown of a polite client's request, divided by
# that of the burst's: below 1 the polite are better off, above 1 worse.

# %% grade_id="W5.N2.C4" points=1 solution=true
def jain(shares: list[float]) -> float:
    "Jain's fairness index of the shares."
    ### BEGIN SOLUTION
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))
    ### END SOLUTION


lab.check("W5.N2.C4", jain)

# %% grade_id="W5.N2.P4" points=1 solution=true
### BEGIN SOLUTION
polite_over_burst = 1
because = "First come, first served: a polite request waits behind what is left of the burst, half of it on average."
### END SOLUTION
lab.predict("W5.N2.P4", polite_over_burst, unit="x", because=because)

# %%
lab.explore("fairness", after="W5.N2.P4")
lab.explore("timeline", after="W5.N2.P4")

# %% [markdown]
# **Read it.** In the timeline, sort by arrival and drag to zoom: first tokens come in order of arrival, whoever
# sent, and a slot that becomes free goes to the next in line. So a polite request waits about as long as the part of
# the burst that is before it. Is that fair? Jain's index *by client* is close to 1 if all clients suffer alike, and
# still one client took most of the service and made all others wait. *By request* it falls, since the first of the
# burst hardly waited and the last waited for all. An index answers only the question that its shares ask. Fairness
# between clients is not on offer here; it belongs to a gateway in front.
#
# Show TTFT, then TPOT. The queue falls on the first alone.
#
# ## 5. The server against an offline batch
#
# `LLM.generate` gets all prompts at once and has no HTTP, no stream and no other process in its way. The source
# document expects continuous batching to handle both alike. Now the same requests go to the same engine settings
# without a server, after a warm-up. Predict the server's throughput with all requests at once, relative to offline.

# %% grade_id="W5.N2.P5" points=1 solution=true
### BEGIN SOLUTION
server_over_offline = 0.8
because = "Each token is detokenised, put into JSON and sent through a socket, on the same cores."
### END SOLUTION
lab.predict("W5.N2.P5", server_over_offline, unit="x", because=because)

# %% timeout=1800
lab.measure("offline", after="W5.N2.P5")
lab.explore("batch", after="W5.N2.P5")

# %% [markdown]
# **Read it.** The whiskers span the repeats. If those of two bars overlap, you saw no difference. What can make one:
#
# - **HTTP and JSON**: each token is an event of its own in a stream of its own.
# - **Detokenising** while the step waits, or beside it. A model without a tokenizer skips this.
# - **The ramp**: prompts arrive over some milliseconds, so the first steps run thin; every batch ends thin.
# - **The client**, on the same cores: it parses each event and stamps its arrival.
#
# On a GPU most of this runs beside the model, so with a large model the difference shrinks towards the ramp. On two
# cores they compete with it. The engine, on the other hand, has a process of its own behind the server, while
# offline the same process schedules, computes and collects. The closed loop is a third way of sending, drawn at its
# best point: a finished request is replaced at once, so only the last round runs thin. "Alike" holds when all
# requests are there from the start and serving is cheap beside a step.
#
# **Explain E1.** A report says: "Our server handles 500 clients with a p99 of 400 ms; 60 requests measured, closed
# loop." Which three questions would you ask?

# %% grade_id="W5.N2.E1" solution=true
### BEGIN SOLUTION
# STUB: answer = ""  # three questions, and why each
answer = (
    "The p99 of which latency, from which clock? 60 requests carry no p99 at all: 400 ms is about their maximum. "
    "How can 500 clients send 60 requests: most of them never sent one, so what was the real concurrency, by "
    "Little's law? And at which rate do users arrive: a closed loop slows down with the server, so it never shows "
    "the queue that an open loop at that rate would build; how late was the client itself?"
)
### END SOLUTION
lab.explain("W5.N2.E1", answer)

# %% [markdown]
# ## 6. Drill: the engine dies under load
#
# Eight answers are streaming when the engine's process is killed. The HTTP server in front of it still lives. What
# does a client see: an exception, an answer that is too short, or silence? Decide, then run the cell.
#
# Afterwards: a stream that ends early looks like a short answer unless the client checks that the stream ended
# properly and brought what was asked for. The message says how far the first one had come, and how the server ended.
# No number of a broken run is kept.
#
# The scoreboard shows your predictions beside the measurements, what the run cost, and the processes that are left,
# of which there should be none. If you pay for the machine, [end it when you are
# done](../../weeks/week5/README.md#cost-and-teardown).

# %% timeout=600
lab.drill("dead_server")

# %%
lab.scoreboard(price_per_hour=None)
