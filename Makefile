# Every target sets up what it needs on a fresh machine: a private .venv, packages from PyPI, and
# Debian packages when run as root, each only if it is missing.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= .keyferry
PARTS := build/parts.txt

.PHONY: install up test check compiled unit up-once integration test-recordings docs campaign bench efficiency published pictures costs ladder clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "keyferry needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -q && apt-get install -yq --no-install-recommends python3-venv; \
	  else echo "keyferry needs the Python module venv: install the package python3-venv"; exit 1; fi; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[local,proxy,kmip,pkcs11,dev]'
	@touch $@

# A cached caller does not notice an edit of its callee in another file: start afresh then.
KERNELS := $(shell find qkd/qkd_core/kernels sim_link/qkd_sim_link/sampling sim_link/qkd_sim_link/formats sim_link/qkd_sim_link/tags -name '*.py' 2>/dev/null)
$(VENV)/kernels: $(KERNELS) | $(VENV)/installed
	@rm -rf build/numba-cache $(STATE)/numba-cache; find qkd sim_link -name '*.nb[ic]' -delete
	@touch $@

# What the tests and the benchmarks use of Debian: program:package.
TOOLS := systemd-analyze:systemd curl:curl openssl:openssl haproxy:haproxy ab:apache2-utils softhsm2-util:softhsm2 \
  wg:wireguard-tools wireguard-go:wireguard-go ip:iproute2 ping:iputils-ping
$(VENV)/tools: Makefile | $(VENV)/installed
	@missing=; for tool in $(TOOLS); do \
	  command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -q && apt-get install -yq --no-install-recommends $$missing; \
	  else echo "the tests need the packages$$missing"; exit 1; fi; fi
	@touch $@

up: $(VENV)/kernels
	@exec $(BIN)/keyferry up --state $(STATE)

# `test` runs every part, prints how long each took, and fails when any did. The kernels are compiled
# while the code is checked: the workers of the tests would compile each for themselves.
test: $(VENV)/kernels $(VENV)/tools
	@mkdir -p build && : > $(PARTS)
	@$(MAKE) --no-print-directory compiled & compiling=$$!; \
	code=0; for part in check unit test-recordings up-once integration; do \
	  start=$$(date +%s); $(MAKE) --no-print-directory $$part || code=1; \
	  if [ $$part = check ]; then wait $$compiling || code=1; fi; \
	  echo "$$part $$(( $$(date +%s) - start )) s" >> $(PARTS); done; \
	echo; echo "time taken:"; cat $(PARTS); exit $$code

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

compiled unit up-once integration test-recordings: export NUMBA_CACHE_DIR := $(CURDIR)/build/numba-cache

compiled: $(VENV)/kernels
	@$(BIN)/python -c 'from keyferry.processes.warmup import warm_kernels; list(warm_kernels())'

unit: $(VENV)/kernels $(VENV)/tools
	$(BIN)/pytest -n 3 --dist loadfile tests/unit tests/vectors tests/property tests/reference tests/coverage --durations=5

# Alone, since it says how long a first user waits.
UP_ONCE := tests/integration/up/test_up_once.py
up-once: $(VENV)/kernels $(VENV)/tools
	$(BIN)/pytest -q $(UP_ONCE)

integration: $(VENV)/kernels $(VENV)/tools
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder tests/integration --ignore $(UP_ONCE) --durations=10

# Recorded data that are not part of the project; without the folder: "recordings: 0 files".
RECORDINGS ?= ../shared/realdata
test-recordings: export RECORDINGS := $(RECORDINGS)
test-recordings: $(VENV)/kernels
	$(BIN)/pytest -q -s tests/recordings

# The page that is made of the code; a test fails while it is stale.
docs: $(VENV)/installed
	$(BIN)/python -c 'from qkd_core.keys.lifecycle_picture import page; print(page(), end="")' \
	  > docs/lifecycle.md

# Deliveries while processes of both sites are killed at random; its short version is in `test`.
campaign: export NUMBA_CACHE_DIR := $(CURDIR)/build/numba-cache
campaign: $(VENV)/kernels
	$(BIN)/python tests/campaign/campaign.py
	$(BIN)/python tests/campaign/refresh_scale.py --first-runs
	$(BIN)/python tests/campaign/refresh_kills.py
	$(BIN)/python tests/coverage/campaign.py

# What the benchmarks alone need; without root the row of libgf2x is left out.
$(VENV)/peers: pyproject.toml | $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	  then apt-get update -q && apt-get install -yq --no-install-recommends libgf2x3; fi
	@touch $@

# Our speed beside that of peers, in a table and in build/bench.json: make bench [STAGE=api,plugin,...]
bench: export NUMBA_CACHE_DIR := $(CURDIR)/build/numba-cache
bench: $(VENV)/kernels $(VENV)/tools $(VENV)/peers
	$(BIN)/python tests/bench/run.py $(if $(STAGE),--stage $(STAGE))

# What error correction tells and how often it fails, over 1,000 frames a point: an hour or two of two cores.
# make efficiency ONLY='--method cascade --longest 65536' takes a minute.
efficiency: export NUMBA_CACHE_DIR := $(CURDIR)/build/numba-cache
efficiency: $(VENV)/kernels
	$(BIN)/python tests/efficiency/table.py $(ONLY)

# Published key rates beside ours: the table in qkd/README.md and two plots, some minutes.
published: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[published]'
	$(BIN)/python tests/published/table.py --json > build/published.json && mv build/published.json docs/published.json
	$(BIN)/python tests/published/table.py --page
	$(BIN)/python tests/published/table.py --plots docs

# Three pictures of simulated links for sim_link/README.md, about a minute.
pictures: export NUMBA_CACHE_DIR := $(CURDIR)/build/numba-cache
pictures: $(VENV)/kernels
	$(BIN)/keyferry link run direct-25km --seed 1 --plot docs/link_distance.svg
	$(BIN)/keyferry link run satellite-pass --blocks 5 --seed 1 --plot docs/link_pass.svg
	$(BIN)/keyferry link run entangled-25km --blocks 5 --seed 1 --plot docs/link_coincidences.svg

# The LDPC codes, designed from nothing into build/codes.json and compared with the stored ones: some minutes.
ladder: $(VENV)/installed
	$(BIN)/python -m qkd_codes ladder build/codes.json

# How the cost of each stage grows with the block: docs/costs.svg. On a quiet machine.
costs: export NUMBA_CACHE_DIR := $(CURDIR)/build/numba-cache
costs: $(VENV)/kernels
	$(BIN)/python tests/bench/costs.py

clean:
	rm -rf $(VENV) build
