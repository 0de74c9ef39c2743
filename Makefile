# One way to do each thing. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODES ?= 3
PREFIX ?= sm

.PHONY: help venv lint unit check setup test cluster-up cluster-down image demo demo-down bench bench-quick bench-cluster crds campaign-failover campaign-home campaign-million campaign-databases campaign-fuzz campaign-powercut campaign-points campaign-memory campaign-postgres campaign-trace bench-trace bench-latency bench-idle campaign-overwrite

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.ready: pyproject.toml
	@tests/setup/python "$(PYTHON)" "$(VENV)"
	@touch $@

venv: $(VENV)/.ready ## .venv/bin/storagemirror, ready to run

lint: venv ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=operator $(BIN)/lint-imports

unit: venv
	$(BIN)/pytest -q -n 2 --dist worksteal tests/unit

check: lint unit ## lint, types, import rules, unit tests: seconds

cluster-up: venv ## a real Kubernetes cluster on this machine (NODES=3 PREFIX=sm)
	$(BIN)/python -m tests.cluster --prefix $(PREFIX) up --nodes $(NODES)

cluster-down: venv ## take it down, leave nothing
	$(BIN)/python -m tests.cluster --prefix $(PREFIX) down

image: venv ## the product's image, as an archive for the cluster (BASE=another base image)
	$(BIN)/python -m tests.image product $(if $(BASE),--base $(BASE))

demo: venv ## a volume mirrored on a real cluster, its node killed, the application on its copy, and home (KUBECONFIG= IMAGE=)
	@$(BIN)/python -m demo up

demo-down: venv ## take the demo down, leave nothing
	@$(BIN)/python -m demo down

setup: venv ## what the tests need: Debian packages, Kubernetes, helm (the first time some minutes)
	@tests/setup/debian
	@$(BIN)/python -m tests.cluster tools

test: venv ## all tests, on real file systems, a real API server and a real cluster
	@tests/setup/debian
	@tests/setup/all-tests

crds: venv ## write crds/, the chart's copy and the field reference anew from the models
	$(BIN)/storagemirror crds --out crds --out charts/storagemirror/files/crds --reference docs/api.md

bench: venv ## our mirror beside rsync and VolSync's passes, at full size, half an hour (JSON=file ROUNDS=5 DIR=/var/tmp)
	@tests/setup/debian
	$(BIN)/python -m tests.bench.mirror --rounds $(or $(ROUNDS),5) $(if $(DIR),--dir $(DIR)) $(if $(JSON),--json $(JSON))

bench-quick: venv ## the same with a tenth of the data, 2 rounds: under 3 minutes
	@tests/setup/debian
	$(BIN)/python -m tests.bench.mirror --quick $(if $(DIR),--dir $(DIR)) $(if $(JSON),--json $(JSON))

bench-cluster: venv ## the promised figures of the product, measured on the real cluster
	$(BIN)/python -m tests.bench.numbers

campaign-million: venv ## memory of both agents with 1,000,000 files of 1 KB (FILES=1000000 DIR=/var/tmp)
	@tests/setup/debian
	$(BIN)/python -m tests.bench.mirror.million $(if $(FILES),--files $(FILES)) $(if $(DIR),--dir $(DIR))

campaign-failover: venv ## 20 power cuts and 20 planned failovers, timed and counted (RUNS=20)
	$(BIN)/python -m tests.bench.campaign_failover $(if $(RUNS),--runs $(RUNS))

campaign-home: venv ## 10 times away and home under numbered writes, and what a failback sends (RUNS=10)
	$(BIN)/python -m tests.bench.campaign_home $(if $(RUNS),--runs $(RUNS))

campaign-fuzz: venv ## hostile peers made of chance against both roles (SECONDS=600 SEED=, FINDINGS=directory)
	$(BIN)/python -m tests.fuzz.campaign --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED)) $(if $(FINDINGS),--findings $(FINDINGS))

campaign-memory: venv ## a large file through an agent of 64 MiB, page cache included (MEBIBYTES=1024)
	STORAGEMIRROR_TEST_MEBIBYTES=$(or $(MEBIBYTES),1024) $(BIN)/pytest -q tests/contracts/test_memory.py

campaign-powercut: venv ## cut the power of a target's disk at random moments (ROUNDS=20 SEED=)
	$(BIN)/python -m tests.bench.campaign_powercut --rounds $(or $(ROUNDS),20) $(if $(SEED),--seed $(SEED))

campaign-postgres: venv ## PostgreSQL under pgbench, replicated by points, cut off and started on the copy (ROUNDS=5 SCALE=5 INTERVAL=1 ONLY=live|point SEED=)
	@dpkg-query --show postgresql >/dev/null 2>&1 || apt-get install -y -qq postgresql
	$(BIN)/python -m tests.bench.campaign_postgres --rounds $(or $(ROUNDS),5) --scale $(or $(SCALE),5) --interval $(or $(INTERVAL),1) $(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED))

campaign-databases: venv ## PostgreSQL and SQLite on points, their node without power, started on the copy (CUTS=50 PAIRS=1 SEED=)
	$(BIN)/python -m tests.bench.campaign_databases --cuts $(or $(CUTS),50) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(SEED),--seed $(SEED))

campaign-trace: venv ## copies kept by the kernel's trace, equal at each of so many frozen points (POINTS=200 SEED=)
	@tests/setup/debian
	STORAGEMIRROR_TEST_POINTS=$(or $(POINTS),200) $(if $(SEED),STORAGEMIRROR_TEST_SEED=$(SEED)) $(BIN)/pytest -q --timeout 3600 tests/contracts/test_trace_follow.py tests/contracts/test_points_source.py -k "follow or (each_point and trace)"

bench-trace: venv ## what the kernel's trace costs, idle and beside a writer (SECONDS=5 ROUNDS=5 DIR=/var/tmp)
	@tests/setup/debian
	$(BIN)/python -m tests.bench.trace_cost --seconds $(or $(SECONDS),5) --rounds $(or $(ROUNDS),5) $(if $(DIR),--dir $(DIR))

bench-latency: venv ## how soon a change can be read on the copy, beside lsyncd and Syncthing (ROUNDS=3 DIR=/var/tmp JSON=file)
	@tests/setup/debian
	@dpkg-query --show lsyncd syncthing >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends lsyncd syncthing
	$(BIN)/python -m tests.bench.latency --rounds $(or $(ROUNDS),3) $(if $(DIR),--dir $(DIR)) $(if $(JSON),--json $(JSON))

bench-idle: venv ## what two agents cost that have nothing to do, with 100,000 files (SECONDS=60 DIR=/var/tmp JSON=file)
	@tests/setup/debian
	$(BIN)/python -m tests.bench.idle --seconds $(or $(SECONDS),60) $(if $(DIR),--dir $(DIR)) $(if $(JSON),--json $(JSON))

campaign-overwrite: venv ## a source overwritten without a pause, Live and Point: memory, lag, interval, equality (MINUTES=10 RATE=200 JSON=file)
	@tests/setup/debian
	$(BIN)/python -m tests.bench.campaign_overwrite --minutes $(or $(MINUTES),10) --rate $(or $(RATE),200) $(if $(DIR),--dir $(DIR)) $(if $(JSON),--json $(JSON))

campaign-points: venv ## cut the power of a target's disk at random moments of points (ROUNDS=100 SEED=)
	$(BIN)/python -m tests.bench.campaign_points --rounds $(or $(ROUNDS),100) $(if $(SEED),--seed $(SEED))
