"""One module a notebook, each with run(config) -> Record."""
