# Everything a user or a developer does, by name. `make help` lists it.

UV_VERSION := 0.13.8
# The user's own uv if there is one, else one that deploy/install-uv.py brings into .bootstrap/.
UV := $(or $(shell command -v uv 2>/dev/null),.bootstrap/uv)
RUN := $(UV) run --no-sync

export UV_PYTHON_DOWNLOADS = never
export UV_LINK_MODE = copy

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-services check fix bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.bootstrap/uv:
	python3 deploy/install-uv.py $(UV_VERSION) .bootstrap

setup: $(filter .bootstrap/uv,$(UV)) ## install everything, pinned by uv.lock, into .venv
	$(UV) sync --quiet --locked

demo: setup ## generate scans, convert, train, score and report, in two to five minutes
	$(RUN) sixray demo --output demo

test: setup ## run all tests
	$(RUN) pytest --numprocesses 2 --dist loadscope

# The release that the tests are known to pass against.
VERSITYGW := github.com/versity/versitygw/cmd/versitygw@v1.8.0

.bootstrap/bin/versitygw:
	GOBIN=$(CURDIR)/.bootstrap/bin go install $(VERSITYGW)

test-services: setup .bootstrap/bin/versitygw ## the tests of object stores against a real S3 server (needs Go, two minutes)
	SIXRAY_S3_SERVER=$(CURDIR)/.bootstrap/bin/versitygw $(RUN) pytest tests/integration/test_object_stores.py

check: setup ## formatting, lint, types
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy

fix: setup ## format and mend what can be mended
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bench: setup ## measure speeds side by side; results go to tests/bench as CSV
	$(RUN) python -m tests.bench

clean: ## remove what was installed and made here
	rm -rf .venv .bootstrap demo .mypy_cache .ruff_cache .hypothesis
