# Everything starts from a fresh clone with make and Python 3.11+ with venv; the first target that
# needs them installs the pinned packages into .venv, later ones find them there.

PYTHON ?= python3
BIN := .venv/bin
# What users need, and what developers need besides.
INSTALLED := .venv/.installed
DEVELOPED := .venv/.developed
LOWEST := .venv-lowest
# Says what is missing; tomllib is there from Python 3.11 on.
PYTHON_IS_THERE := $(PYTHON) -c 'import ensurepip, venv, tomllib' 2>/dev/null || { \
	echo "gabordiag needs Python 3.11 or newer with venv; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
# Of scikit-image's, with hopper: the images of the atlas.
PHOTOGRAPHS := astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png \
	gravel.png hubble_deep_field.jpg moon.png motorcycle_left.png rocket.jpg
QUICK_AND_LONG := "not slow and not benchmark_suite"
GALLERY := elongated-sweep.png elongated-basins.png elongated-run.png round-animation.gif

.PHONY: help install reproduce test test-long check check-slow check-lowest coverage bench gallery atlas format clean

help:
	@echo "make reproduce     the question's failure, explained, figures and report under runs/"
	@echo "make test          the quick tests"
	@echo "make test-long     those that take seconds each"
	@echo "make check         formatter, linter, types, dependency audit, quick and long tests"
	@echo "make check-slow    the slow tests"
	@echo "make check-lowest  the tests with the oldest versions that pyproject.toml allows"
	@echo "make coverage      the tests, and the lines and branches that they leave out"
	@echo "make bench         speed, as ratios measured side by side"
	@echo "make gallery       the figures and the animation that README.md shows"
	@echo "make atlas         the atlas that README.md shows: 3,640 landscapes"
	@echo "make format        formats the code"

install: $(DEVELOPED)

$(INSTALLED): pyproject.toml .ci/constraints.txt
	@$(PYTHON_IS_THERE)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable ".[explore]"
	touch $@

$(DEVELOPED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --group dev
	touch $@

reproduce: $(INSTALLED)
	$(BIN)/gabordiag reproduce

# A file's tests go to one process, so that what they share is made once.
test: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-long: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "long and not slow"

check: $(DEVELOPED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python .ci/audit.py
	$(MAKE) test
	$(MAKE) test-long

check-slow: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow

# Floors such as torch>=2.6 become torch==2.6.*. Old versions may warn of newer ones beside them.
check-lowest:
	@$(PYTHON_IS_THERE)
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) .ci/floors.py > $(LOWEST)/floors.txt
	$(LOWEST)/bin/python -m pip install --quiet "pip>=25.1"
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/floors.txt --editable ".[explore]" --group dev
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n auto --dist loadfile -m $(QUICK_AND_LONG) -W default tests

coverage: $(DEVELOPED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m $(QUICK_AND_LONG) --cov --cov-report=term-missing:skip-covered

bench: $(DEVELOPED)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --group bench
	$(BIN)/python -m pytest tests/benchmarks -m benchmark_suite --benchmark-enable -s

gallery: $(INSTALLED)
	rm -rf runs/gallery-run
	$(BIN)/gabordiag reproduce --quiet --animate --out runs/gallery-run
	cp $(addprefix runs/gallery-run/,$(GALLERY)) runs/gallery/
	rm -rf runs/gallery-run

atlas: $(DEVELOPED)
	rm -rf runs/atlas-run runs/gallery/atlas.zarr
	folder=$$($(BIN)/python -c "import os, skimage.data as d; print(os.path.dirname(d.__file__))"); \
	$(BIN)/gabordiag atlas --image hopper \
		$$(for name in $(PHOTOGRAPHS); do echo --image $$folder/$$name; done) --out runs/atlas-run
	cp -r runs/atlas-run/atlas.zarr runs/atlas-run/atlas.png runs/gallery/
	rm -rf runs/atlas-run

format: $(DEVELOPED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv $(LOWEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .coverage* *.egg-info
