"""What Records say: pure functions from a Record to the numbers of its tables and figures."""
