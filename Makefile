# The workbook's commands. Each makes the environment first if it is missing or out of date; `make` lists them.
#
# Narrow a run:     make week5 MODEL=Qwen/Qwen2.5-7B-Instruct PROFILE=gpu TP=1,2,4 NOTEBOOK=03
# Environment:      PYTHON=python3.12    which Python makes it
#                   DEVICE=cpu|cuda      which build of PyTorch and vLLM (default: cuda if there is an NVIDIA GPU)
#                   VENV=$CONDA_PREFIX   install into that environment instead of .venv
#                   TORCH_INDEX=URL      where PyTorch's CPU build comes from if pip's own configuration has none

PYTHON ?= python3
VENV ?= .venv
DEVICE ?= auto
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PORT ?= 8888

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help venv week5 test test-unit test-vllm test-notebooks test-browser lint doctor lab pod notebooks \
        screenshot sweep lock clean

unexport PYTHONDONTWRITEBYTECODE
# With it set, each start would compile PyTorch and vLLM again.
py := "$(VENV)/bin/python"
comma := ,

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: ## make the environment (every other command does it when needed)
	@"$(PYTHON)" labs/tools/install.py --venv "$(VENV)" --device "$(DEVICE)" --torch-index "$(TORCH_INDEX)"

week5: venv ## run the notebooks of Week 5 and write their report (MODEL= PROFILE= TP= NOTEBOOK=)
	@$(py) -m labs run week5 $(if $(PROFILE),--profile "$(PROFILE)") $(if $(MODEL),--model "$(MODEL)") \
		$(if $(TP),--tp $(subst $(comma), ,$(TP))) $(if $(NOTEBOOK),--notebook "$(NOTEBOOK)")

test: venv ## run all tests: unit, vLLM, every solution notebook, browser
	@$(py) labs/tools/test.py

test-unit test-vllm test-notebooks test-browser: venv
	@$(py) labs/tools/test.py $(subst test-,,$@)

lint: venv ## ruff and mypy
	@$(py) -m ruff check .
	@$(py) -m ruff format --check .
	@$(py) -m mypy

doctor: venv ## what this machine has, and what that means for the course
	@$(py) -m labs doctor

lab: venv ## JupyterLab on 127.0.0.1, opens on the week's guide (PORT=)
	@PORT="$(PORT)" $(py) labs/tools/lab.py lab

pod: venv ## JupyterLab on all interfaces, with a token, for rented pods (PORT=)
	@PORT="$(PORT)" $(py) labs/tools/lab.py pod

notebooks: venv ## build notebooks/ and solutions/ from weeks/
	@$(py) -m labs notebooks

screenshot: venv ## take the README's picture again with the browser test
	@LABS_SCREENSHOT="$(CURDIR)/weeks/week5/lab.png" $(py) labs/tools/test.py browser

sweep: venv ## end processes that an earlier run left behind
	@$(py) -m labs sweep

lock: venv ## resolve constraints.txt again after a change of pyproject.toml
	@$(py) labs/tools/lock.py

clean: ## remove .venv and caches; runs/ with your answers and Records stays
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "removed .venv and caches; runs/ is kept (delete it yourself to lose your answers and Records)"
