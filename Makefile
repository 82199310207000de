# `make help` lists the targets.

UV_VERSION := 0.13.8
# The installed uv, or one that deploy/install-uv.py installs into .bootstrap/.
UV := $(or $(shell command -v uv 2>/dev/null),.bootstrap/uv)
RUN := $(UV) run --no-sync
# Compiled tests are kept, whatever the environment says: without them each of two processes compiles for 6 s.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(RUN) pytest

export UV_PYTHON_DOWNLOADS = never
export UV_LINK_MODE = copy
# Compile at installation: where bytecode is not written, each command would compile a thousand modules at its start.
export UV_COMPILE_BYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo build test test-fast test-gpu test-packaging test-services test-simulation test-cluster cluster-up cluster-down docs check audit fix bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

.bootstrap/uv:
	python3 deploy/install-uv.py $(UV_VERSION) .bootstrap

setup: $(filter .bootstrap/uv,$(UV)) ## install everything in the versions of uv.lock into .venv
	$(UV) sync --quiet --locked

demo: setup ## generate scans, convert, train, score and report
	$(RUN) sixray demo --output demo

build: $(filter .bootstrap/uv,$(UV)) ## build the wheel, the sdist and a CycloneDX list of all dependencies into dist/
	$(UV) build --quiet --out-dir dist
	$(UV) export --quiet --locked --no-dev --all-extras --format cyclonedx1.5 --output-file dist/sixray.cdx.json

test: setup ## run all tests
	$(PYTEST) --numprocesses 2 --dist worksteal
	$(if $(wildcard /dev/nvidia0),$(PYTEST) tests/gpu)

test-gpu: setup ## test decoding, scoring and training on a GPU against the processor
	$(PYTEST) tests/gpu

test-fast: setup ## run all but the slow tests
	$(PYTEST) --numprocesses 2 --dist worksteal --hypothesis-profile fast -m "not slow and not cluster and not packaging"

test-packaging: setup ## test the wheel, installed by pip into empty environments (needs PyPI)
	UV=$(UV) $(PYTEST) -m packaging tests/packaging

test-services: setup ## test object stores against a real S3 server (needs Go)
	$(RUN) python -m deploy.local.fetch versitygw
	SIXRAY_S3_SERVER=$(CURDIR)/.bootstrap/cluster/bin/versitygw $(PYTEST) tests/integration/test_object_stores.py

cluster-up: setup ## start Flink, Beam's job server and workers, and an S3 store on loopback (needs Java, Maven, Go)
	$(RUN) python -m deploy.local.cluster up $(CLUSTER_FLAGS)

cluster-down: setup ## stop them and remove their files
	$(RUN) python -m deploy.local.cluster down

test-simulation: setup ## cut the power of simulated disks under all jobs, with new seeds (five minutes; MINUTES=2)
	$(RUN) python -m tests.simulation --minutes $(or $(MINUTES),5)

test-cluster: setup ## test the jobs on Flink, on Prism and under faults, and the manifests (needs Java, Maven, Go)
	$(RUN) python -m deploy.local.fetch flink job-server versitygw prism kustomize operator prometheus-operator
	$(PYTEST) -m cluster tests/cluster

docs: setup ## write the flag tables of pipelines/README.md from the parsers
	$(RUN) python -m pipelines.flag_tables

check: setup ## check formatting, lint and types
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy

audit: $(filter .bootstrap/uv,$(UV)) ## ask for known vulnerabilities of all packages in uv.lock
	python3 deploy/audit.py $(UV)

fix: setup ## format, and fix what ruff can fix
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

bench: $(filter .bootstrap/uv,$(UV)) ## run the benchmarks; results go to tests/bench as CSV
	$(UV) sync --quiet --locked --group bench
	$(RUN) python -m tests.bench

clean: ## remove everything installed or built here
	rm -rf .venv .bootstrap demo dist .mypy_cache .ruff_cache .hypothesis
	find shards model pipelines deploy tests -name __pycache__ -prune -exec rm -rf {} +
