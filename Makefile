# `make` alone prints what there is. Everything is installed into this folder (.venv*); tools/setup.py says what and why.

PYTHON ?= python3
ARGS ?=
SETUP = @$(PYTHON) tools/setup.py
RUN = .venv/bin/python -m

.DEFAULT_GOAL := help
.PHONY: help setup up test test-all bench lint format lock clean

help: ## print this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r target text; do \
	  printf '  make %-10s %s\n' "$$target" "$$text"; done

setup: ## install what running needs; every target below does its own set-up, so this is for looking at it alone
	$(SETUP) runtime

up: ## set up, then run a server on this machine until Ctrl-C; flags: make up ARGS='--data-port 9443'
	$(SETUP) runtime
	@exec $(RUN) stockade up $(ARGS)

test: ## set up, then run the tests (without the az command line and JavaScript clients); flags: make test ARGS='-k keys'
	$(SETUP) test
	@exec $(RUN) pytest --numprocesses 2 --dist loadfile $(ARGS)

test-all: ## set up, then run the tests with the az command line and JavaScript clients that `test` leaves out
	$(SETUP) test --with az,node
	@exec $(RUN) pytest -m 'az or node' $(ARGS)

bench: ## set up, then measure requests beside nginx, Envoy, Portkey and LiteLLM, and each control; a quarter of an hour
	$(SETUP) test --with node
	@PATH="$(CURDIR)/.venv-node/bin:$$PATH" $(RUN) benchmarks $(ARGS)
	@for part in loss_prevention output_filter cut_off keys vault revocation content audit_log audit_search audit_cost; do echo; echo "$$part"; $(RUN) benchmarks.$$part || exit; done

lint: ## check style (ruff) and types (mypy --strict)
	$(SETUP) test
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

format: ## put the sources into the one format that lint accepts
	$(SETUP) test
	@$(RUN) ruff check --fix --exit-zero --quiet .
	@$(RUN) ruff format .

COMPILE = .venv-tools/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
          --no-header --annotation-style line --no-emit-index-url --no-emit-find-links $(ARGS)

EXTRAS = --extra postgresql --extra pkcs11 --extra azure --extra vault --extra aws --extra opentelemetry

lock: ## write the lock files in requirements/ from pyproject.toml; newer versions: make lock ARGS=--upgrade
	$(SETUP) lock
	@for group in build tools sslyze az node; do \
	  $(COMPILE) --group $$group --output-file requirements/$$group.txt || exit; done
	@for group in models vectors; do \
	  $(COMPILE) --group $$group --no-deps --output-file requirements/$$group.txt || exit; done
	@$(COMPILE) pyproject.toml $(EXTRAS) --output-file requirements/runtime.txt
	@$(COMPILE) pyproject.toml $(EXTRAS) --group test --constraints requirements/runtime.txt \
	  --output-file requirements/test.txt
	@echo 'requirements/ is up to date'

clean: ## remove everything that set-up made (the server keeps its data elsewhere)
	@rm -rf .venv* .bench tests/clients/node/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
