PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A plain range may bring gigabytes of CUDA where a CPU build of this version is at hand.
TORCH := torch==2.13.0
# Options for pip, such as an index with CPU builds.
TORCH_OPTIONS ?=

.PHONY: install serve test lint check format bench clean

install: $(VENV)/.installed
serve: $(VENV)/.installed
	$(BIN)/python -m service
test: check
	$(BIN)/python -m pytest
check: lint
	$(BIN)/mypy
lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
# An hour on an idle machine; `$(BIN)/python -m benchmarks --quick` tries all of them.
bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info

$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit("Impasto needs Python 3.11 to 3.13: make PYTHON=python3.12 …" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH_OPTIONS) $(TORCH)
	# Its own requirement names another build of torch; the code works without it.
	$(BIN)/python -m pip install --quiet --no-deps torchvision==0.28.0
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
