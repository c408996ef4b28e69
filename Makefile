# `make run` trains the quickstart, `make test` checks everything; each first makes .venv and installs into it.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
FILES := requirements.txt requirements-dev.txt requirements-onnx.txt requirements-datasets.txt requirements-ray.txt
WANTED := $(FILES:%=-r %)

.PHONY: help install run test torture format lock

help:
	@echo "make run     train recipes/quickstart.yaml: no data, weights or internet needed, a few minutes on 2 cores"
	@echo "make test    lint, types and tests (HW1_PHOTOS=FOLDER also runs those that need real photographs)"
	@echo "make torture kills, disk faults, damaged files and many more, hundreds of times over: under an hour on 2 idle cores"
	@echo "make format  format the code and write recipes/schema.json"
	@echo "make lock    pin the newest versions that requirements*.txt allow (needs uv)"

install: $(INSTALLED)

$(INSTALLED): $(FILES) requirements.lock
	@if command -v uv >/dev/null; then \
		test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) .venv; \
		uv pip install --compile-bytecode --python $(BIN)/python $(WANTED) -c requirements.lock; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
		$(BIN)/python -m pip install --disable-pip-version-check $(WANTED) -c requirements.lock; \
	fi
	@touch $@

run: $(INSTALLED)
	$(BIN)/python train.py recipes/quickstart.yaml

# One thread a process: the tests run side by side, and their small models gain nothing from more.
test: $(INSTALLED)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

torture: $(INSTALLED)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m faults

format: $(INSTALLED)
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	$(BIN)/python -m hw1.schema > recipes/schema.json

lock:
	uv pip compile --universal --python-version 3.11 --no-header --no-annotate $(FILES) -o requirements.lock
