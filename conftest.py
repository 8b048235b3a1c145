"""pytest's settings for the whole checkout; what nbval needs stands in labs/tests/nbval_env.py."""

pytest_plugins = ["labs.tests.nbval_env"]
