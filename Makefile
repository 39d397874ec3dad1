# Every target creates or reuses .venv by itself. PYTHON picks the interpreter it is made with (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := demo-index

.PHONY: demo test test-slow lint format docs bench clean

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[all]" --group dev
	touch $(READY)

demo: $(READY)
	$(BIN)/python examples/demo.py --db $(DEMO)

test: $(READY)
	$(BIN)/python -m pytest -n auto --timeout 300

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/zensical build --clean --strict

bench: $(READY)
	$(BIN)/python benchmarks/chunk_eval.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/import_time.py

clean:
	rm -rf .venv site $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
