# One runner for everything; `make help` lists it.
PYTHON ?= python3
DATA ?= ../shared/data
PORT ?= 8080
export ZEROROUTER_DATA ?= $(DATA)
BIN := .venv/bin
STAMP := .venv/.complete

.DEFAULT_GOAL := help
.PHONY: help env run demo test check bench soak reproduce space lock clean

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## Create .venv with everything for development.

# Debian without python3-venv has no ensurepip; there the system's pip fills the environment. One that
# works is brought up to date in place: others may be working in it.
$(STAMP): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or later is needed, $(PYTHON) is older; try make PYTHON=python3.12 ..." >&2; exit 1; }
	@if $(BIN)/python -c '' 2>/dev/null; then echo "bringing .venv up to date ..."; \
	else echo "creating .venv (about a minute) ..."; rm -rf .venv; \
		$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv --without-pip .venv; }; fi
	@if [ -x $(BIN)/pip ]; then $(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt; \
	else $(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/dev.txt; fi
	@if [ -x $(BIN)/pip ]; then $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	else PATH="$(CURDIR)/$(BIN):$$PATH" $(PYTHON) -m pip --python $(BIN)/python install --quiet --no-deps --no-build-isolation -e .; fi
	@touch $(STAMP)

run: demo ## Print the table of decisions, then serve played models until Ctrl-C (PORT=8080).
	@echo
	@echo "Starting the gateway with played models: no key, no network, no bill."
	@$(BIN)/zerorouter serve --sandbox --quiet --port $(PORT)

demo: env ## Route six very different prompts under each preset: the table of decisions alone.
	@$(BIN)/zerorouter demo

test: env ## Run the tests (those on real records where ZEROROUTER_DATA exists).
	$(BIN)/python -m pytest

check: env ## Lint, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: env ## Print the speed and size figures.
	@for script in benchmarks/bench_*.py; do echo; echo "== $$script"; OPENBLAS_NUM_THREADS=1 $(BIN)/python $$script || exit 1; done

soak: env ## 200,000 prompts through the router and the gateway: memory has to stay level.
	$(BIN)/python benchmarks/soak_router.py
	$(BIN)/python benchmarks/soak_gateway.py

reproduce: env ## Run the evaluation protocol on DATA within an hour; QUICK=1 in minutes.
	$(BIN)/python scripts/reproduce.py --data $(DATA) --out .work/reproduce $(if $(QUICK),--quick)

space: env ## Rebuild the shipped catalog and space from the records in DATA.
	$(BIN)/python scripts/build_catalog.py --data $(DATA)
	$(BIN)/python scripts/build_space.py --data $(DATA)
	$(BIN)/python scripts/build_scores.py --data $(DATA)

lock: env ## Pin requirements/dev.txt anew from pyproject.toml and requirements/dev.in.
	$(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-find-links --no-header --output-file requirements/dev.txt requirements/dev.in

clean: ## Remove the environment and all caches.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
