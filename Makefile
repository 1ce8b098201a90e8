# Every target works as the first command on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo demo-incremental test test-faults check format bench clean

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
		--layout dsad --videos 12 --frames 4 --size 256x144
	$(BIN)/python -m lap_monai stream configs/streams/phantom_demo.yaml --study configs/studies/demo_incremental.yaml \
		--data runs/demo_incremental/phantom --out runs/demo_incremental/stream --jobs 2 --resume
	@echo "look at    runs/demo_incremental/stream/report.html"

test: $(READY)  ## all tests
	$(BIN)/python -m pytest

test-faults: $(READY)  ## kills, full disks, damaged files; COUNT=50 kills as often and writes docs/evidence/faults.json
	$(BIN)/python -m pytest tests/faults
	$(if $(COUNT),$(BIN)/python tests/faults/kill_and_resume.py --count $(COUNT) --out docs/evidence/faults.json)

check: $(READY)  ## lint, format, types, architecture and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow"

format: $(READY)  ## put the code into the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## benchmarks, each with its figures in docs/evidence; run while nothing else does
	$(BIN)/python benchmarks/dcl_loss.py --out docs/evidence/dcl_loss.json
	$(BIN)/python benchmarks/step_overhead.py --out docs/evidence/step_overhead.json
	$(BIN)/python benchmarks/loading.py --out docs/evidence/loading.json

clean:  ## runs, caches and the virtual environment
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
