# Two commands: `make demo` shows a deployment on real parts, `make test` runs every test.
BIN := .venv/bin
PYTHON := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup lint check test test-gates bench bench-migrations bench-stalls bench-rollback bench-gates up down demo trials chaos docs

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: system packages, .venv, the project in it
	@sandbox/setup.sh

lint: setup ## style, types, and the one-way import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint ## the loop of a change: style, types, every test that needs no real part
	$(BIN)/pytest -n 2 -m "not real"

test: setup ## every test, those on real parts included, three at a time: most of them wait
	$(BIN)/pytest -n 3 --durations=25

test-gates: setup ## the gates alone: attacks on them, deadlines, a real browser
	$(BIN)/pytest -m gates

bench: setup ## every benchmark, into docs/benchmarks.md: twenty minutes on a quiet machine
	$(PYTHON) -m bench.migrations
	$(PYTHON) -m bench.stalls
	$(PYTHON) -m bench.rollback
	$(PYTHON) -m bench.gates

bench-migrations: setup ## how fast migrations are applied, beside other tools
	$(PYTHON) -m bench.migrations

bench-stalls: setup ## what traffic feels of a migration that waits for a lock
	$(PYTHON) -m bench.stalls

bench-rollback: setup ## how long a bad release still answers users after the verdict
	$(PYTHON) -m bench.rollback

bench-gates: setup ## how long a gate takes to open, with sources that answer or hang
	$(PYTHON) -m bench.gates

up: setup ## leave the sandbox running, to try the UI by hand
	$(PYTHON) -m sandbox up

down: setup ## take the sandbox away again
	$(PYTHON) -m sandbox down

demo: setup ## a good release, then a bad one, with a client counting failed requests
	$(PYTHON) -m sandbox demo

TRIALS ?= 5
trials: setup ## releases, good and bad, under load, each N times: TRIALS=1 ONLY=dies,leak
	$(PYTHON) -m sandbox trials --rounds $(TRIALS) --only "$(ONLY)"

ROUNDS ?= 1
chaos: setup ## break something at each moment of a deployment: ROUNDS=3 ONLY='engine@*' ADD=yes
	$(PYTHON) -m sandbox chaos --rounds $(ROUNDS) --only "$(ONLY)" $(if $(ADD),--add)

docs: setup ## the example file, the pages of settings, lint rules and modules, from the code
	$(PYTHON) -m docs.settings
	$(PYTHON) -m docs.example
	$(PYTHON) -m docs.migrations_lint
	$(PYTHON) -m docs.architecture
