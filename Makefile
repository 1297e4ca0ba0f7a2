# Everything a fresh machine needs is installed by these targets into virtual environments of their own.
PYTHON ?= python3
VENV   := .venv
OPENCLIP_VENV := .venv-openclip
DEMO_VENV := .venv-demo
DEMO   ?= secondlens-demo
# A plain torch brings gigabytes of CUDA libraries, which the demo does not need: on a machine without a GPU give the
# address of PyTorch's CPU builds (its installation page has it) as TORCH_INDEX.
TORCH_INDEX ?=

# Processes of tests, each with one thread.
JOBS   ?= 2

.PHONY: help setup demo lint test test-all coverage test-openclip bench clean

help:            ## what can be made
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/  -/'

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

setup: $(VENV)/.ready ## the development environment, in .venv

$(DEMO_VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO_VENV)
	$(if $(TORCH_INDEX),$(DEMO_VENV)/bin/pip install --quiet --index-url $(TORCH_INDEX) --constraint constraints.txt torch)
	$(DEMO_VENV)/bin/pip install --quiet --constraint constraints.txt --editable ".[plots]"
	@touch $@

demo: $(DEMO_VENV)/.ready ## the whole story in the embedded world, in an environment of its own
	$(DEMO_VENV)/bin/secondlens demo --out $(DEMO)

lint: setup      ## style, types, and imports against the layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python tools/layers.py

PYTEST := $(VENV)/bin/pytest --numprocesses $(JOBS) --dist worksteal --jaxtyping-packages=secondlens,checked.checked

test: lint       ## lint, and all tests but the slow ones
	$(PYTEST) -m "not slow"

test-all: lint   ## lint, and every test: what continuous integration runs
	$(PYTEST)

coverage: setup  ## every test, and the branches that they ran, by package
	$(PYTEST) --cov=secondlens --cov-branch --cov-report=
	$(VENV)/bin/python tools/branches.py

$(OPENCLIP_VENV)/.ready: pyproject.toml constraints.txt tests/openclip/requirements.txt
	$(PYTHON) -m venv $(OPENCLIP_VENV)
	$(OPENCLIP_VENV)/bin/pip install --quiet --constraint constraints.txt --editable . pytest hypothesis
	$(OPENCLIP_VENV)/bin/pip install --quiet --no-deps --requirement tests/openclip/requirements.txt
	@touch $@

test-openclip: $(OPENCLIP_VENV)/.ready ## the open_clip adapter, in an environment of its own
	$(OPENCLIP_VENV)/bin/pytest tests/openclip

bench: setup     ## every benchmark, then benchmarks/README.md
	$(VENV)/bin/python -m benchmarks

clean:           ## remove the environments and caches
	rm -rf $(VENV) $(OPENCLIP_VENV) $(DEMO_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
