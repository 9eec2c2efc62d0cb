# Every target works from a fresh clone: it needs Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What cannot share an environment with the gateway's tests: each has its own below OTHERS.
ALONE := strands langgraph signers bench
OTHERS := .venvs
# uv brings its own certificate authorities; where the system has some, those are right (proxies, mirrors).
SYSTEM_CERTS := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),true,false)
UV := UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=$(SYSTEM_CERTS) $(BIN)/uv --quiet
SYNC := $(UV) pip sync --compile-bytecode --python $(BIN)/python --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install demo test lint bench node-parts agent-frameworks signers requirements clean

help:          ## show this help
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

install: $(VENV)/.dev  ## build .venv with everything the tests need

demo: $(if $(wildcard $(VENV)/.dev),$(VENV)/.dev,$(VENV)/.demo)  ## start gateway, agent and issuer; ONCE=1 walks through and exits
	@$(BIN)/identity-gateway demo $(if $(ONCE),--once)

test: $(VENV)/.dev  ## run the tests (T=path or ARGS=-k… narrow them; REQUIRE_ALL=1 makes a skip a failure)
	@$(BIN)/python -m pytest -n 2 $(if $(REQUIRE_ALL),--require-all) $(T) $(ARGS)

lint: $(VENV)/.dev  ## ruff, strict types, and the rules of the house
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python -m pytest -q -p no:randomly tests/test_house.py

bench: $(VENV)/.dev $(OTHERS)/bench/.made  ## measure the gateway beside nginx, Envoy and a plain proxy (ARGS=--quick is short)
	@$(BIN)/python -m tests.bench $(ARGS)

node-parts: $(VENV)/.dev  ## install npm's parts: a real issuer, two signers, an evaluator of policies
	@cd tests/node && PATH=$(abspath $(BIN)):$$PATH npm ci --silent --no-audit --no-fund

agent-frameworks: $(OTHERS)/strands/.made $(OTHERS)/langgraph/.made  ## install Strands and LangGraph, each in an environment of its own

signers: $(OTHERS)/signers/.made  ## install the signer in C of AWS, which boto3 would use if it stood beside it

requirements: $(VENV)/.uv  ## pin the dependencies of pyproject.toml anew, with hashes
	$(UV) pip compile --universal --generate-hashes --no-header --upgrade -o requirements/runtime.txt pyproject.toml
	$(UV) pip compile --universal --generate-hashes --no-header --extra demo -c requirements/runtime.txt -o requirements/demo.txt pyproject.toml
	$(UV) pip compile --universal --generate-hashes --no-header --extra dev -c requirements/demo.txt -o requirements/dev.txt pyproject.toml
	$(UV) pip compile --universal --generate-hashes --no-header -o requirements/build.txt requirements/build.in
	for name in $(ALONE); do $(UV) pip compile --universal --generate-hashes --no-header --upgrade -o requirements/$$name.txt requirements/$$name.in || exit 1; done

clean:         ## remove what the other targets made
	rm -rf $(VENV) $(OTHERS) build .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/node/node_modules

$(VENV)/.uv:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say which with: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.demo: requirements/demo.txt requirements/build.txt pyproject.toml $(VENV)/.uv
	@$(SYNC) requirements/uv.txt requirements/build.txt requirements/demo.txt
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt requirements/build.txt pyproject.toml $(VENV)/.uv
	@$(SYNC) requirements/uv.txt requirements/build.txt requirements/dev.txt
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.demo

$(OTHERS)/%/.made: requirements/%.txt $(VENV)/.uv
	@$(UV) venv --allow-existing --python $(BIN)/python $(OTHERS)/$*
	@$(UV) pip sync --compile-bytecode --python $(OTHERS)/$*/bin/python --require-hashes requirements/$*.txt
	@touch $@
