# Two commands: `make demo` and `make test`. Both set everything up first.

PYTHON ?= python3
VENV ?= .venv
# Test files run side by side; every process has a Postgres of its own.
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: demo test bench lint types imports pytest install clean

demo: install
	$(BIN)/ffpe run studies/demo.toml

test: lint types imports pytest

# On a quiet machine; QUICK=1 for smaller samples, DATA=FOLDER for real tissue.
bench: install
	$(BIN)/python benchmarks/bench.py $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ffpe needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

# Up, down, up and `alembic check` are tests of their own (tests/featurestore/test_schema.py).
pytest: install
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
