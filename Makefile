# Every target works as the first command on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Processes that share the tests, a file at a time; each computes with one thread.
JOBS ?= 2

.PHONY: help setup demo demo-incremental test test-faults check coverage docs format hooks bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

setup: $(READY)  ## virtual environment in .venv with everything development needs

$(READY): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)  ## phantom data, train, evaluate, infer, report: runs/demo (minutes on two cores)
	$(BIN)/python -m lap_monai demo --out runs/demo

demo-incremental: $(READY)  ## organs that arrive in two steps, replayed by synthetic frames: runs/demo_incremental
	test -d runs/demo_incremental/phantom || $(BIN)/python -m lap_monai phantom runs/demo_incremental/phantom \
		--layout dsad --videos 24 --frames 4 --size 128x72
	$(BIN)/python -m lap_monai stream configs/streams/phantom_demo.yaml --study configs/studies/demo_incremental.yaml \
		--data runs/demo_incremental/phantom --out runs/demo_incremental/stream --jobs 2 --resume
	@echo "look at    runs/demo_incremental/stream/report.html"

test: $(READY)  ## all tests on JOBS=2 processes, and the slowest of them by name
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --durations 25 --durations-min 2

test-faults: $(READY)  ## kills, full disks, damaged files; COUNT=50 kills as often and writes docs/evidence/faults.json
	$(BIN)/python -m pytest tests/faults
	$(if $(COUNT),$(BIN)/python tests/faults/kill_and_resume.py --count $(COUNT) --out docs/evidence/faults.json)

check: $(READY)  ## lint, format, types, architecture and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

coverage: $(READY)  ## all tests once more, and which lines none of them runs: runs/coverage/html/index.html
	mkdir -p runs/coverage
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report term --cov-report html

docs: $(READY)  ## the documentation as a site that opens without a server: runs/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "look at    runs/site/index.html"

hooks: $(READY)  ## the checks of .pre-commit-config.yaml before every commit
	$(BIN)/pre-commit install --hook-type pre-commit --hook-type commit-msg

format: $(READY)  ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## all benchmarks in their smallest setting, one table: minutes; benchmarks/README.md has the full ones
	$(BIN)/python benchmarks/run_all.py

clean:  ## runs, caches and the virtual environment
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
