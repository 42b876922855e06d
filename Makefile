# Everything lands in this folder: .venv (packages), .venv-bench and .venv-pgstac (peers of the benchmarks), .earthself (state).
.DEFAULT_GOAL := help
.PHONY: help demo test up down status bench images lint format lock train clean
SHELL := /bin/bash

PYTHON ?= python3
UV_VERSION := 0.13.9
PY := .venv/bin/python
MEMBERS := data_access benchmark helpdesk_bridge images/earthsignature images/processing operators plugins client deploy/provision deploy/local
READY := .venv/.ready
CODE := $(MEMBERS) images dags tests bench docs/examples
export UV_COMPILE_BYTECODE := 1
export UV_NO_PROGRESS := 1
# Trust what the machine trusts, as pip does: networks with a certificate authority of their own are common.
export UV_SYSTEM_CERTS := 1

help: ## this list
	@echo "EarthSelf: self-service Earth observation on Apache Airflow"; echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/\1\t\2/' | while IFS=$$'\t' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done
	@echo; echo "Settings: EARTHSELF_PORT (8080), EARTHSELF_SIGNATURE_PORT (50051), EARTHSELF_DATA_PORT (8081), EARTHSELF_SAMPLE_PORT (8082), EARTHSELF_HOME (.earthself)"
	@echo "A live provider: make demo PROVIDER=earth_search AREA=14.2,46.9,14.3,47.0 START=2024-07-01 END=2024-07-15"

$(READY): requirements.lock $(addsuffix /pyproject.toml,$(MEMBERS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "EarthSelf needs Python 3.11 or newer; this is %s. Name another one: make PYTHON=python3.12 ..." % sys.version.split()[0])'
	@test -x $(PY) || { echo "making .venv ..."; $(PYTHON) -m venv .venv; }
	@$(PY) -m uv --version 2>/dev/null | grep -qF "uv $(UV_VERSION)" || $(PY) -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	@echo "installing packages into .venv (about 2 GB, once) ..."
	@$(PY) -m uv pip sync -q --python $(PY) --require-hashes requirements.lock
	@$(PY) -m uv pip install -q --python $(PY) --no-deps --no-build-isolation $(addprefix -e ,$(MEMBERS))
	@$(PY) -m compileall -q -j 2 $(MEMBERS) dags
	@touch $(READY)

demo: $(READY) ## from an area to a published land-cover map, on the shipped sample or PROVIDER=... AREA=... START=... END=...
	@$(PY) -m earthself.local demo

test: $(READY) ## every test; what this machine lacks is skipped with one line that says how to get it
	@$(PY) -m pytest -rs

up: $(READY) ## start the local stack and stay with it (Ctrl-C stops all of it)
	@exec $(PY) -m earthself.local up

down: $(READY) ## stop the local stack
	@$(PY) -m earthself.local down

status: $(READY) ## what of the local stack runs, and where
	@$(PY) -m earthself.local status

bench: $(READY) .venv-bench/.ready .venv-pgstac/.ready ## measure against peers: tables and bench-results.json (minutes; ONLY=composite for one)
	@$(PY) -m bench $(ONLY)

.venv-bench/.ready: bench/requirements.lock $(READY)
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@$(PY) -m uv pip sync -q --python .venv-bench/bin/python --require-hashes bench/requirements.lock
	@touch $@

.venv-pgstac/.ready: bench/pgstac.lock $(READY)
	@test -x .venv-pgstac/bin/python || $(PYTHON) -m venv .venv-pgstac
	@$(PY) -m uv pip sync -q --python .venv-pgstac/bin/python --require-hashes bench/pgstac.lock
	@touch $@

images: $(READY) ## build container images and their SBOMs with podman, buildah or docker (ONLY=processing BASE=name@digest)
	@$(PY) images/build.py $(ONLY) $(if $(BASE),--base "$(BASE)")

lint: $(READY) ## format, rules, types, direction of imports
	@.venv/bin/ruff format --check $(CODE)
	@.venv/bin/ruff check $(CODE)
	@.venv/bin/mypy $(addsuffix /earthself,$(MEMBERS)) images/build.py
	@.venv/bin/lint-imports

format: $(READY) ## put the code into the house's format
	@.venv/bin/ruff format $(CODE)
	@.venv/bin/ruff check --fix $(CODE)

lock: $(READY) ## make the locks anew from requirements.in, images/sbom.in, bench/requirements.in and bench/pgstac.in
	@$(PY) -m uv pip compile -q requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.lock
	@$(PY) -m uv pip compile -q images/sbom.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o images/sbom.lock
	@$(PY) -m uv pip compile -q bench/requirements.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o bench/requirements.lock
	@$(PY) -m uv pip compile -q bench/pgstac.in --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o bench/pgstac.lock

train: $(READY) ## train the baseline model again: TRUTH=folder (docs/models.md), OUT=folder
	@test -n "$(TRUTH)" || { echo "name the folder with the labelled data: make train TRUTH=folder (docs/models.md says where to get some)"; exit 2; }
	@$(PY) -m earthself.processing.training --truth "$(TRUTH)" $(if $(OUT),--out "$(OUT)")

clean: ## remove the environments and the state
	rm -rf .venv .venv-bench .venv-pgstac .earthself
