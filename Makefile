# Two commands: `make demo` and `make test`. Each sets up what it needs first.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 2
# One thread for each process: the tests and the trials are what runs side by side.
SINGLE_THREADED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# What the project was given stands before what the machine has: pytest, buf, node, npm.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHON

# Written when an installation has succeeded, so that an interrupted one is taken up again.
MAIN := .venv/.installed
SERVING_HOST := .serving-host/.installed
NODE_TEST := tests/integration/node
NODE := $(if $(wildcard $(NODE_TEST)/package.json),$(NODE_TEST)/node_modules/.installed)

.PHONY: help
help: ## List what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'
	@echo
	@echo "  PYTHON=python3.12      the Python to set up with (3.11 or newer)"
	@echo "  KEEPTUNE_TORCH=cpu     torch from the CPU index of the PyTorch project; =cuda: the GPU build"
	@echo "  WORKERS=2              how many processes run the tests"
	@echo "  ARGS='-k space -x'     more arguments for pytest, or for the demo"

.PHONY: setup
setup: $(MAIN) $(SERVING_HOST) $(NODE) protos ## Install everything, pinned, into .venv and .serving-host

.PHONY: demo
demo: $(MAIN) $(SERVING_HOST) protos ## Watch the loop close: search to Triton, drift, and back
	keeptune demo $(ARGS)

.PHONY: test
test: setup lint unlinted-test ## Lint, then run all tests

.PHONY: unlinted-test
unlinted-test: setup ## Run all tests without linting first
	$(SINGLE_THREADED) python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: lint
lint: $(MAIN) protos ## ruff, mypy, layers (import-linter), buf lint and breaking, Dockerfiles
	@tools/lint.sh

.PHONY: format
format: $(MAIN) ## Format the code and the protos
	ruff check --fix-only --quiet
	ruff format
	buf format --write --path protos/keeptune

.PHONY: protos
protos: $(MAIN) ## Generate the Python stubs from the protos, if they have changed
	@python protos/generate.py

.PHONY: bench
bench: setup ## Run the measurements of tests/bench
	$(SINGLE_THREADED) python -m pytest -m bench --timeout 1800 -s $(ARGS)

.PHONY: constraints
constraints: $(MAIN) ## Pin again after a change of the dependencies; ARGS=--upgrade: take new versions
	tools/constraints.sh $(ARGS)

.PHONY: clean
clean: ## Remove everything that was made here, the environments too
	rm -rf .venv .serving-host .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .coverage* demo-report dist build $(NODE_TEST)/node_modules protos/.stubs*
	find protos -name '*_pb2.py' -o -name '*_pb2.pyi' -o -name '*_pb2_grpc.py' \
		-o -name '*_pb2_grpc.pyi' | xargs -r rm
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MAIN): pyproject.toml constraints/torch.txt constraints/all.txt constraints/uv.txt
	@tools/install.sh main
	@touch $@

# Built after the main environment even with -j: both would get uv.
$(SERVING_HOST): constraints/serving-host.txt | $(MAIN)
	@tools/install.sh serving-host
	@touch $@

$(NODE_TEST)/node_modules/.installed: $(NODE_TEST)/package-lock.json | $(MAIN)
	npm ci --prefix $(NODE_TEST) --no-audit --no-fund
	@touch $@
