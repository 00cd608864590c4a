.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TORCH  := torch==2.13.0
# Where the CPU build of torch lives when no local copy of it is found (PyPI's torch brings CUDA).
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PIP    := $(BIN)/python -m pip --disable-pip-version-check
export PYTHONUNBUFFERED = 1
# Or each process of a test run compiles everything afresh.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo proto test lint pytest asan bench soak pictures docs release lock clean

help:  ## what can be made
	@awk -F '  ## ' '/^[a-z]+:.*  ## / {split($$1, name, ":"); printf "make %-8s  %s\n", name[1], $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## .venv with everything for the CPU

$(READY): pyproject.toml .ci/requirements-cpu.txt .ci/build_native.py $(wildcard rvtop/load/native/*.[ch])
	@echo "rvtop: setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  [1/3] torch, CPU build"
	@$(PIP) install -qq --no-deps "$(TORCH)+cpu" 2>/dev/null \
	  || $(PIP) install -q --no-deps --index-url $(TORCH_CPU_INDEX) "$(TORCH)+cpu"
	@echo "  [2/3] Ray, vLLM (CPU), FAISS, Textual and the rest"
	@$(PIP) install -qq uv && $(BIN)/uv pip install -q --python $(BIN)/python --no-deps -r .ci/requirements-cpu.txt \
	  || $(PIP) install -q --no-deps -r .ci/requirements-cpu.txt
	@echo "  [3/3] rvtop"
	@$(PIP) install -qq --no-deps -e .
	@touch $@

demo: $(READY)  ## sets up everything and runs the main job (a terminal gets the dashboard)
	@$(BIN)/rvtop demo

proto: $(READY)  ## writes the Python code of proto/
	$(BIN)/python .ci/make_proto.py

lint: $(READY)  ## ruff (lint, format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mypy and the tests side by side: mypy alone would leave a core idle. A fault of either fails it, and its line
# stands where it was found.
test: $(READY)  ## sets up everything, passes ruff, mypy and the tests
	@$(MAKE) --no-print-directory -j2 lint pytest

# Four processes for two cores: many tests wait for processes, ports and clocks. Groups are taken in the order
# of tests/conftest.py, the longest first.
pytest: $(READY)
	$(BIN)/python -m pytest -q -n 4 --dist loadgroup --no-loadscope-reorder

# The tests of the C in rvtop/load/native under AddressSanitizer and UBSan, where the compiler has them.
asan: $(READY)  ## the native read path under AddressSanitizer and UBSan
	$(BIN)/python .ci/asan.py

# The first time it also makes venvs for the clients that it is compared with.
bench: export TORCH_CPU_INDEX := $(TORCH_CPU_INDEX)
bench: $(READY)  ## measurements, three quarters of an hour on two cores
	$(BIN)/python -m tests.bench

# The tests that start and kill whole clusters (about 25 minutes on two cores), some 250 attempts to break a run
# (20 minutes), and a million requests (9 minutes).
soak: $(READY)  ## clusters started and killed, attempts to break a run, a million requests, 40 minutes of faults
	$(BIN)/python -m pytest -q -m slow --timeout 600
	$(BIN)/python -m tests.faults.attempts
	$(BIN)/python -m tests.bench.soak
	$(BIN)/python -m tests.bench.soak_faults

pictures: $(READY)  ## build/screens, recorded from real sessions (five minutes)
	$(BIN)/python docs/screens/make.py

# In a venv of its own: what builds the pages is nothing that rvtop is tested with.
DOCS := build/docs-tools
$(DOCS)/.ready: .ci/requirements-docs.txt
	@$(PYTHON) -m venv --clear $(DOCS)
	@$(DOCS)/bin/python -m pip --disable-pip-version-check install -qq -r $<
	@touch $@

docs: $(DOCS)/.ready  ## build/site: the pages of docs/, without a warning
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict -f .ci/mkdocs.yml && echo "docs: build/site"

# Each Python that is here installs the wheel in a new venv (some minutes).
release: $(READY)  ## dist/: sdist, manylinux wheel and SBOM, each tried (docs/release.md)
	$(BIN)/python .ci/release.py

# Writes .ci/requirements-cpu.txt afresh from pyproject.toml.
lock: $(READY)  ## .ci/requirements-cpu.txt afresh
	.ci/lock $(BIN)

clean:  ## removes what was made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
