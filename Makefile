# Everything a user or a developer does, by name. `make help` lists it.

UV_VERSION := 0.13.8
# The user's own uv if there is one, else one that deploy/install-uv.py brings into .bootstrap/.
UV := $(or $(shell command -v uv 2>/dev/null),.bootstrap/uv)
RUN := $(UV) run --no-sync

export UV_PYTHON_DOWNLOADS = never
export UV_LINK_MODE = copy
# Once here, so that no command compiles a thousand modules when it starts, where bytecode is not written or kept.
export UV_COMPILE_BYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo build test test-fast test-packaging test-services test-cluster cluster-up cluster-down docs check fix bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

.bootstrap/uv:
	python3 deploy/install-uv.py $(UV_VERSION) .bootstrap

setup: $(filter .bootstrap/uv,$(UV)) ## install everything, pinned by uv.lock, into .venv
	$(UV) sync --quiet --locked

demo: setup ## generate scans, convert, train, score and report, in two to six minutes
	$(RUN) sixray demo --output demo

build: $(filter .bootstrap/uv,$(UV)) ## build the wheel and the sdist into dist/
	$(UV) build --quiet --out-dir dist

test: setup ## run all tests (six minutes on two cores)
	$(RUN) pytest --numprocesses 2 --dist worksteal

test-fast: setup ## run the tests that take less than a second or two each (90 seconds)
	$(RUN) pytest --numprocesses 2 --dist worksteal --hypothesis-profile fast -m "not slow and not cluster and not packaging"

test-packaging: setup ## the wheel, installed by pip into empty environments (needs PyPI, three minutes)
	UV=$(UV) $(RUN) pytest -m packaging tests/packaging

test-services: setup ## the tests of object stores against a real S3 server (needs Go, two minutes)
	$(RUN) python -m deploy.local.fetch versitygw
	SIXRAY_S3_SERVER=$(CURDIR)/.bootstrap/cluster/bin/versitygw $(RUN) pytest tests/integration/test_object_stores.py

cluster-up: setup ## start Flink, Beam's job server and workers, and an S3 store on loopback (needs Java, Maven, Go)
	$(RUN) python -m deploy.local.cluster up $(CLUSTER_FLAGS)

cluster-down: setup ## end all of them and remove what they wrote
	$(RUN) python -m deploy.local.cluster down

test-cluster: setup ## the jobs on Flink, on Prism and under faults; manifests built and checked (the same, half an hour)
	$(RUN) python -m deploy.local.fetch flink job-server versitygw prism kustomize operator prometheus-operator
	$(RUN) pytest -m cluster tests/cluster

docs: setup ## write the flag tables of pipelines/README.md from the parsers
	$(RUN) python -m pipelines.flag_tables

check: setup ## formatting, lint, types
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy

fix: setup ## format and mend what can be mended
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bench: $(filter .bootstrap/uv,$(UV)) ## measure speeds side by side; results go to tests/bench as CSV
	$(UV) sync --quiet --locked --group bench
	$(RUN) python -m tests.bench

clean: ## remove what was installed and made here
	rm -rf .venv .bootstrap demo dist .mypy_cache .ruff_cache .hypothesis
