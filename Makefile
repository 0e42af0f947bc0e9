PYTHON ?= python3.11
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup demo demonstration study docs test contract hostile fuzz chaos check format serve bench bench-gpu capacity lock clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python -m examples.demo

# Ten seeds of nine trainings, from the plateau on with and without the way out; the figure and the table from the results.
demonstration: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m examples.way_out
	$(BIN)/python -m docs.figures.way_out

# The lecture's figure and what is known of critical points, by hundreds of jobs; the figures and the tables from the answers.
study: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.study
	$(BIN)/python -m docs.figures.study
	$(BIN)/python -m docs.figures.theory
	$(BIN)/python -m benchmarks.study.page

docs: setup
	$(BIN)/python -m docs.generate reference
	$(BIN)/python -m docs.generate site build/site

serve: setup
	$(BIN)/python -m service --host 127.0.0.1 --port 8000 --data ./data

# Two at a time: most tests wait for processes of the service. Threads that wait in a spin would take the other's core.
test: setup
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

contract: setup
	SADDLESCOPE_CONTRACT_EXAMPLES=400 $(BIN)/python -m pytest --timeout 7200 tests/e2e/test_e2e_contract.py

hostile: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hostile

fuzz: setup
	$(BIN)/python -m tests.fuzz operators --minutes 10
	$(BIN)/python -m tests.fuzz readers --count 100000

chaos: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --jobs 200

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks

bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu

# What 10^3, 10^5 and 10^7 checkpoints a day need, from what one costs here; the tables of docs/scaling.md.
capacity: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.capacity

lock: setup
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu//' | (echo '# Exact versions of everything that development, tests and the demo use. `make lock` renews it.'; cat) > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
