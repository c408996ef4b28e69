# `make run` trains the quickstart, `make test` checks everything; each first makes .venv and installs into it what it needs.
PYTHON ?= python3
BIN := .venv/bin
REST := requirements-dev.txt requirements-onnx.txt requirements-datasets.txt requirements-ray.txt requirements-tensorboard.txt \
        requirements-sweep.txt requirements-docs.txt
FOR_TRAINING := .venv/.installed-for-training
FOR_DOCS := .venv/.installed-for-docs
ALL := .venv/.installed-all

COVERAGE ?= --cov=hw1 --cov-report=term:skip-covered
IMAGE ?= hw1
WHEELHOUSE ?= wheelhouse
WHEEL_PYTHON ?= 3.11
WHEEL_MACHINE ?= x86_64
WHEEL_FILES ?= requirements.txt requirements-onnx.txt
GLIBC := $(shell seq 28 -1 5)
PLATFORMS := $(patsubst %,--platform manylinux%_$(WHEEL_MACHINE),2014 2010 1 $(GLIBC:%=_2_%))

.PHONY: help install run test testdemo torture docs format lock image wheelhouse

help:
	@echo "make run     train recipes/quickstart.yaml: no data, weights or internet needed, a few minutes on 2 cores (SET=train.epochs=2: changes)"
	@echo "make install  make .venv with what training needs, as make run does first; make test and the rest add what they need"
	@echo "make test    lint, types and tests, and which lines they ran (HW1_PHOTOS=FOLDER also runs those that need real photographs)"
	@echo "make testdemo  test the demo in a browser, after installing gradio into .venv"
	@echo "make torture kills, disk faults, damaged files and many more, hundreds of times over: under an hour on 2 idle cores"
	@echo "make docs    build the documentation as a site into build/site; fails where a link or reference is broken"
	@echo "make format  format the code and write recipes/schema.json"
	@echo "make lock    pin the newest versions that requirements*.txt allow"
	@echo "make image   build the Docker image (IMAGE=NAME; see docs/guide/docker.md)"
	@echo "make wheelhouse  collect what a machine without internet needs (WHEEL_PYTHON=3.12, WHEEL_MACHINE=aarch64; see docs/guide/offline.md)"

install: $(FOR_TRAINING)

# Said before anything is installed.
define check_python
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; version = "%d.%d" % sys.version_info[:2]; \
		sys.exit(None if version in ("3.11", "3.12") else sys.executable + " is Python " + version + \
		"; hw1 is tested with 3.11 and 3.12: make PYTHON=python3.12 names another")'
endef

# What the requirements files in $(1) name, each package in the version of the lock.
define install
	@if command -v uv >/dev/null; then \
		test -x $(BIN)/python || uv venv --quiet --seed --python $(PYTHON) .venv; \
		uv pip install --compile-bytecode --python $(BIN)/python $(1:%=-r %) -c requirements.lock; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
		$(BIN)/python -m pip install --disable-pip-version-check $(1:%=-r %) -c requirements.lock; \
	fi
	@touch $@
endef

# The project itself too, as the command hw1; it stays here, where it can be changed.
$(FOR_TRAINING): requirements.txt requirements.lock
	$(check_python)
	$(call install,requirements.txt)
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python --no-deps -e .; \
		else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .; fi

$(FOR_DOCS): $(FOR_TRAINING) requirements-docs.txt
	$(call install,requirements-docs.txt)

$(ALL): $(FOR_TRAINING) $(REST)
	$(call install,requirements.txt $(REST))

run: $(FOR_TRAINING)
	$(BIN)/python train.py recipes/quickstart.yaml $(SET)

# One thread a process: the tests run side by side, and their small models gain nothing from more. One process a file: what its tests
# share is made once, and one process more than cores, as tests also wait. Coverage is of these processes alone, and takes a quarter more
# of their time; COVERAGE= does without.
test: $(ALL)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder -m "not long" $(COVERAGE)

docs: $(FOR_DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Apart from the rest, as gradio takes an older Pillow than the lock.
testdemo: $(ALL)
	$(BIN)/python -m pip install --disable-pip-version-check -r requirements-demo.txt
	$(BIN)/python -m pytest -n0 tests/commands/test_demo.py

torture: $(ALL)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m faults
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

format: $(ALL)
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	$(BIN)/python -m hw1 schema > recipes/schema.json

lock: $(ALL)
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-header --no-annotate requirements.txt $(REST) -o requirements.lock

# What was changed and not committed is in the image too, and its runs say so.
image:
	docker build --build-arg COMMIT="$$(git describe --always --abbrev=40 --exclude='*' --dirty)" --tag $(IMAGE) .

# uv reads the lock as the other machine would, whose Python and processor may not be this one's.
wheelhouse: $(ALL)
	@mkdir -p $(WHEELHOUSE) && rm -f $(WHEELHOUSE)/*.whl
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --only-binary :all: --python-version $(WHEEL_PYTHON) \
		--python-platform $(WHEEL_MACHINE)-manylinux_2_28 $(WHEEL_FILES) -c requirements.lock -o $(WHEELHOUSE)/wheels.lock
	$(BIN)/python -m pip download --disable-pip-version-check --progress-bar off --no-deps --only-binary :all: \
		--python-version $(WHEEL_PYTHON) $(PLATFORMS) -d $(WHEELHOUSE) -r $(WHEELHOUSE)/wheels.lock
	git archive --prefix=hw1/ -o $(WHEELHOUSE)/hw1.tar.gz HEAD
	cp docs/offline/install.sh $(WHEELHOUSE)/
	cd $(WHEELHOUSE) && sha256sum *.whl hw1.tar.gz install.sh > SHA256SUMS
	@du -sh $(WHEELHOUSE); echo "next: bring $(WHEELHOUSE)/ to the other machine, and there: sh install.sh"
