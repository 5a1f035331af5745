# `make demo` and `make test` set everything up by themselves; the other targets are for developers.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/street
# Workers of the test runner; each test process uses one thread.
JOBS ?= 2

.PHONY: help demo demo-reid demo-track test slow lint types check bench clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1  /p' $(MAKEFILE_LIST)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,codec]'
	# An oracle of the tests. Alone, for it asks for a second OpenCV, which would overwrite the first.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps trackeval
	touch $(READY)

demo: $(READY) ## train on the synthetic street, evaluate, predict on new scenes; 5 minutes on 2 cores
	$(BIN)/python scripts/demo.py

demo-reid: $(READY) ## learn to recognise people of the synthetic street; under 5 minutes on 2 cores
	$(BIN)/python scripts/demo_reid.py

demo-track: $(READY) ## follow people through footage with both networks: HOTA, MOTA, IDF1; under 15 minutes on 2 cores
	$(BIN)/python scripts/demo_track.py

test: $(READY) ## the tests, under 12 minutes on 2 cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow"

slow: $(READY) ## the tests that start many processes or train for minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m slow

lint: $(READY) ## ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(READY) ## mypy --strict on the package
	$(BIN)/mypy

check: lint types test

bench: $(READY) ## our training step against a hand-written loop
	$(BIN)/python benchmarks/step_overhead.py

clean:
	rm -rf runs predictions .pytest_cache .mypy_cache .ruff_cache
