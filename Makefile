# `make demo` and `make test` set up everything they need in .venv, with pip alone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
WORKERS ?= 4
MINUTES ?= 10
SEEDS ?= 10000

# Tests sync thousands of times and prove nothing by the wait; those that need a disk make one. So their files are in memory,
# where there are 4 GiB of it from which programs may also be loaded. TMPDIR=/tmp puts them on the disk.
SHM    := $(shell findmnt -rno OPTIONS /dev/shm 2>/dev/null | grep -qvw noexec && df -k /dev/shm | awk 'NR == 2 && $$4 > 4000000 {print "/dev/shm"}')
TMPDIR ?= $(or $(SHM),/tmp)
test check soak: export TMPDIR := $(TMPDIR)
# Tests start hundreds of programs; where what they compile is not kept, each start takes as much longer.
test check soak: export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check format bench soak constraints clean

# The pins are the whole set: with --no-deps no newer release of one of them is looked for, and then refused for its hash.
$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## the whole product on this machine; SECONDS=20 ends by itself, TRACE=file.csv plays a real trace
	SECONDS=$(SECONDS) TRACE=$(TRACE) $(BIN)/python examples/demo.py

test: $(READY) ## every test but the soak runs and the benchmarks
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not soak and not benchmark"

check: $(READY) ## what CI runs: format, lint, types, import floors, tests with coverage, docs examples
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not soak and not benchmark" --durations=25 --cov --cov-report=term --cov-fail-under=90

format: $(READY) ## rewrite the code as `check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## one table of figures, medians of two runs, and bench.json
	$(BIN)/python -m tests.benchmarks --repeats 2

soak: $(READY) ## what has to hold time after time, then every kind of fault for MINUTES, and a report
	$(BIN)/python -m pytest -m soak
	$(BIN)/python -m pytest -m heavy --hypothesis-profile=soak --timeout=3600
	$(BIN)/python -m tests.faults.simulation --seeds $(SEEDS)
	$(BIN)/python -m tests.faults.leases --seeds $(SEEDS)
	$(BIN)/python -m tests.fuzz --minutes 5
	$(BIN)/python -m tests.faults --minutes $(MINUTES)

constraints: $(READY) ## pin the newest versions that fit, with hashes
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --generate-hashes --allow-unsafe --no-emit-options --no-annotate --no-header --output-file constraints.txt pyproject.toml
	sed -i '/^sidemeter @/d; /^#/d' constraints.txt # its own extras name it, and an editable install has no hash

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json
