.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3.11
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# What torch brings along is a choice of accelerator, so the lock leaves it to torch's own wheel.
UNLOCKED := torch triton $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 \
  cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx) \
  cuda-bindings cuda-pathfinder cuda-toolkit

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/.python-done $(VENV)/.kernels-done node_modules/.done $(VENV)/.debian-done ## Install everything that the project needs, into .venv and node_modules

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.python-done: requirements.lock pyproject.toml | $(BIN)/python
	@echo "1 of 4: $$(grep -c == $<) Python packages (a minute or two)"
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@echo "2 of 4: torch (a minute)"
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# Compiled here, in half a minute, and kept beside the source, so that no round waits for it.
$(VENV)/.kernels-done: $(addprefix aggregator/,kernels.py lanes.py sorting.py) $(VENV)/.python-done
	@echo "3 of 4: the aggregation kernels (half a minute)"
	@rm -rf aggregator/__pycache__/kernels-*
	@$(BIN)/python -c 'import aggregator.kernels'
	@touch $@

node_modules/.done: package-lock.json package.json $(VENV)/.python-done
	@echo "4 of 4: Node packages"
	# Not `npm ci`: it insists on lock entries for the binaries of every platform, and not every
	# registry mirror serves those. This keeps to the lock's versions and integrity all the same.
	npm install --no-save --ignore-scripts --loglevel=error
	touch $@

# Some tests drive Debian's Chromium or hold DICOM files against dicom3tools, which only root may
# install; without them those tests are skipped.
$(VENV)/.debian-done: | $(VENV)/.python-done
	@if command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
	  for each in chromium:chromium dciodvfy:dicom3tools; do \
	    command -v "$${each%:*}" > /dev/null \
	    || apt-get install --yes --quiet --quiet --no-install-recommends "$${each#*:}" > /dev/null \
	    || echo "$${each#*:} could not be installed: the tests that need it will be skipped"; \
	  done; \
	fi
	@touch $@

.PHONY: demo
demo: setup ## Run a whole federation and show what it withstands (DATA=FILE.npz for MedMNIST-form data)
	fedwitness demo $(if $(DATA),--data $(DATA))

.PHONY: up
up: setup ## Start a local network to work on; Ctrl-C stops it, the next start goes on
	fedwitness up

.PHONY: test
test: setup ## Run every test: contracts first, then the browser verifier, then Python
	npm run --silent test
	npm run --silent explorer:test
	# A file's tests stay together, since they share what is costly to set up. In the usual order
	# files of few tests come last, and these take longest: a process would wait for another.
	pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: fuzz-ingest
fuzz-ingest: setup ## Take in 10,000 damaged DICOM files (MUTANTS=COUNT SEED=NUMBER)
	FEDWITNESS_MUTANTS=$(or $(MUTANTS),10000) FEDWITNESS_MUTANTS_SEED=$(or $(SEED),1) \
	  pytest -rP tests/node/test_ingest.py -k damaged

.PHONY: contracts
contracts: setup ## Compile and test the contracts, print gas and coverage, write the ABIs
	npm run --silent test
	npm run --silent coverage
	npm run --silent abi

.PHONY: check
check: setup ## Lint, types, import rules, contract analysis, and that the ABIs are fresh
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	npm run --silent lint
	npm run --silent abi:check
	npx hardhat clean && npm run --silent compile  # slither misreads what older sources left
	slither . --fail-low

.PHONY: bench
bench: setup ## Measure everything; results go to bench/results.json
	python -m bench.round_stages
	$(MAKE) bench-index
	$(MAKE) bench-aggregation
	$(MAKE) bench-robustness
	$(MAKE) bench-ingest

.PHONY: bench-index
bench-index: setup ## Rebuild the index from a million events, and ask it an auditor's questions
	python -m bench.index

.PHONY: bench-aggregation
bench-aggregation: setup $(PEERS)/.python-done ## Measure aggregation against Flower and ByzFL, and its memory
	python -m bench.aggregation --peers $(PEERS)/bin/python
	python -m bench.memory

.PHONY: bench-ingest
bench-ingest: setup ## Measure how fast 10,000 generated slices are taken in, and with what memory
	python -m bench.ingest

.PHONY: bench-robustness
bench-robustness: setup ## Set every attack against every pipeline, what is missing of it; writes docs/robustness.md
	python -m bench.gas
	python -m bench.robustness.table --processes 2
	python -m bench.robustness.report

$(PEERS)/.python-done: bench/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	# torch with what its own wheel asks for; the rest is listed whole.
	$(PEERS)/bin/python -m pip install --quiet --quiet --disable-pip-version-check "$$(grep ^torch== $<)"
	$(PEERS)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps -r $<
	touch $@

.PHONY: lock
lock: ## Resolve the dependencies anew into requirements.lock and package-lock.json
	uv pip compile pyproject.toml --all-extras --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate $(addprefix --no-emit-package ,$(UNLOCKED)) --quiet --output-file requirements.lock
	# Away from node_modules, whose own notes lack what the lock is to hold. No addresses are kept:
	# any registry mirror will do, as "integrity" pins the bytes.
	fresh=$$(mktemp -d) && cp package.json .npmrc "$$fresh" \
	  && (cd "$$fresh" && npm install --package-lock-only --ignore-scripts) \
	  && sed '/^ *"resolved": /d' "$$fresh/package-lock.json" > package-lock.json && rm -r "$$fresh"
