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

# Hours, all together; each says what it skips because a package or data is missing.
bench: $(READY)
	for run in import_time ingest chunk_eval retrieval retrieval_modes splitting scope_notes reading doubling \
			"late_chunking quality" "late_chunking speed" "late_chunking memory" embed_throughput quantization; do \
		echo "== $$run"; set -- $$run; $(BIN)/python benchmarks/$$1.py $$2 || exit 1; done

clean:
	rm -rf .venv site $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis
