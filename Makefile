# Two commands do all the set-up: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check --no-input

# What XLA has compiled once is kept between commands.
export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/.jax_cache

.DEFAULT_GOAL := help
.PHONY: help demo gallery test test-parity docs-check install clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/installed ## Make a video with the shipped model: out.mp4 and out_xt.png.
	@$(VENV)/bin/python sample.py text_to_video --output=out.mp4 --xt_slice=out_xt.png

gallery: $(VENV)/installed ## Every application, on one page: gallery/index.html.
	@$(VENV)/bin/python gallery.py

# Of three processes of pytest, one often waits for what it has started: two cores are kept busy.
# Threads of BLAS, for which all cores are busy, would cost three times the CPU time by their waiting.
test: export OPENBLAS_NUM_THREADS := 1
test: $(VENV)/installed-dev ## Run lint and tests.
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder

test-parity: $(VENV)/installed-parity ## Compare with diffusers and transformers, in torch.
	@$(VENV)/bin/pytest tests/parity

docs-check: $(VENV)/installed-dev ## Run the commands of the README and docs, shortened.
	@$(VENV)/bin/python -m benchmarks.docs

install: $(VENV)/installed ## Only make .venv and install into it.

clean: ## Remove .venv, caches and the demo's files; runs and datasets stay.
	@rm -rf $(VENV) .jax_cache .pytest_cache .ruff_cache gallery out.mp4 out_xt.png
	@find . -name __pycache__ -prune -exec rm -rf {} +

# The stamps lie in .venv, so that they go with it.
$(VENV)/installed: requirements.txt constraints.txt | $(VENV)/bin/pip
	@echo 'Installing requirements.txt into $(VENV): about 1 GB, a few minutes.'
	@$(PIP) install -r requirements.txt -c constraints.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	@$(PIP) install -r requirements-dev.txt -c constraints.txt
	@touch $@

$(VENV)/installed-parity: $(VENV)/installed-dev requirements-parity.txt
	@$(PIP) install -r requirements-parity.txt -c constraints.txt
	@touch $@

# A venv half made, as where Debian's python3-venv is missing, would pass for a whole one.
$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
	  "error: Python %d.%d is too old; allowed is 3.11 or newer: make PYTHON=..." % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
