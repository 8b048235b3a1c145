# ruff: noqa
# A small source for the tests of the builder, the Lab and run_week.

# %% [markdown]
# # Sums
# How long is a sum?

# %% tags=["parameters"]
PROFILE = "auto"
MODEL = None
TP = None

# %%
from labs import course
from labs.tests import toy

toy.install()
lab = course.open("week9/01_toy", profile=PROFILE, model=MODEL, tp=TP)

# %% [markdown]
# ## Predict

# %% grade_id="W9.N1.P1" points=1 solution=true
### BEGIN SOLUTION
seconds = 0.5
because = "one addition"
### END SOLUTION
lab.predict("W9.N1.P1", seconds, unit="s", because=because)

# %%
lab.measure("sum", after="W9.N1.P1")

# %%
lab.figure("sums", after="W9.N1.P1", scale="linear")


# %% {"grade_id": "W9.N1.C1", "points": 2, "solution": true}
def shard_rows(rows, ranks, rank):
    "Rows [start, stop) of this rank."
    ### BEGIN SOLUTION
    return rows * rank // ranks, rows * (rank + 1) // ranks
    ### END SOLUTION


# %%
lab.check("W9.N1.C1", shard_rows)

# %% grade_id="W9.N1.Q1" points=1 solution=true
### BEGIN SOLUTION
answer = 10
### END SOLUTION
lab.check("W9.N1.Q1", answer)

# %% grade_id="W9.N1.Q2" points=1 solution=true
### BEGIN SOLUTION
# STUB: choice = None  # "a" or "b"
choice = "b"
### END SOLUTION
lab.check("W9.N1.Q2", choice)

# %% grade_id="W9.N1.E1" solution=true
### BEGIN SOLUTION
text = "Because the sum is short."
### END SOLUTION
lab.explain("W9.N1.E1", text)

# %%
lab.drill("odd")

# %% timeout=30
lab.scoreboard()
