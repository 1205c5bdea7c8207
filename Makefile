# The two commands of the README, `make train` and `make test`; each sets everything up on a fresh machine.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 5
RUN ?= connect4-make-train
NAMED = $(if $(filter connect4-make-train,$(RUN)),,RUN=$(RUN) )
PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := -n 2 --dist loadfile --max-worker-restart 2
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "az needs Python 3.11 or newer: make PYTHON=python3.12"; exit 2; }

.PHONY: setup setup-cpu train check test test-integrations lint verify gpu-check recorder-wheel docs clean

setup: $(VENV)/.ready

# The stamp depends on what decides the environment, so an old one is brought up to date.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	@$(PYTHON) .ci/install.py $(VENV) torch==2.13.0 -- -e '.[train,web,dev]'
	@touch $@
	@echo "az is ready: $(BIN)/az --help"

# The small engine without PyTorch, for a machine without an NVIDIA GPU: plain onnxruntime, in an environment of its own,
# since onnxruntime and onnxruntime-gpu must never be installed together.
setup-cpu: .venv-cpu/.ready

.venv-cpu/.ready: pyproject.toml constraints.txt requirements-cpu.txt
	@$(CHECK_PYTHON)
	@$(PYTHON) .ci/install.py .venv-cpu -r requirements-cpu.txt -- --no-deps -e .
	@touch $@
	@echo "az is ready: .venv-cpu/bin/az --help"

# Exit 3: the run has had its minutes. Then it is measured again; any other failure ends here.
train: setup
	@if [ -f runs/$(RUN)/config.toml ]; then $(BIN)/az resume $(RUN) --minutes $(MINUTES) --finished-ok; \
	else $(BIN)/az train connect4 --preset quick --minutes $(MINUTES) --run $(RUN); fi || { code=$$?; \
	echo "To make another run: make train RUN=name" >&2; exit $$code; }
	$(BIN)/az arena $(RUN) random --sims 0 --games 200
	$(BIN)/az arena $(RUN) runs/$(RUN)/models/000000.onnx --sims 50 --games 100
	$(BIN)/az arena $(RUN) rollouts:200 --sims 50 --games 100
	@echo
	@echo "Measured after 5 minutes on two quiet cores of an EPYC with AVX-512 (docs/log.md): 99.5 % against random, 97.5 %"
	@echo "against its untrained self, and 90.6 % against rollouts:200, the mean of three seeds of 400 games."
	@echo "A busy or slower machine, or fewer minutes, give less."
	@echo "Train it longer:  make train $(NAMED)MINUTES=30   (30 minutes in all: it goes on from where it is)"
	@echo "How the run is:   $(BIN)/az doctor $(RUN)"
	@echo "Play against it:  $(BIN)/az play connect4 --model $(RUN)"

# Two processes, a file of tests stays in one: most tests wait for processes of their own.
test: setup lint
	$(PYTEST) $(SIDE_BY_SIDE) -m "not slow and not integrations" tests
	NUMBA_DISABLE_JIT=1 $(PYTEST) $(SIDE_BY_SIDE) -m "nojit and not slow" -W error tests
	NUMBA_BOUNDSCHECK=1 $(PYTEST) $(SIDE_BY_SIDE) -m "nojit and not slow" tests

# The recorder inside of other libraries, pages in Chromium, the site, the tutorial: in an environment of its own.
test-integrations: .venv-integrations/.ready
	@.ci/chromium.sh
	.venv-integrations/bin/python -m pytest -m "integrations and not slow" tests

.venv-integrations/.ready: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	@$(PYTHON) .ci/install.py .venv-integrations torch==2.13.0 -- -e '.[train,web,dev,docs,integrations,adapters]'
	@command -v npm > /dev/null && npm install --silent --fetch-timeout=20000 --fetch-retries=1 --prefix .venv-integrations @sabaki/gtp@3.0.0 || true
	@touch $@

# For daily work, under a minute on a quiet machine: lint, the types of changed files, their tests and a smoke set.
check: setup
	$(BIN)/python .ci/check.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

# Long proofs: strict type errors only become fewer, deep perft, twenty kills of a run, tic-tac-toe that never loses.
verify: setup .venv-integrations/.ready
	$(PYTEST) -m slow --timeout 7200 -o faulthandler_timeout=7300 tests
	.venv-integrations/bin/python -m pytest -m "integrations and slow" --timeout 7200 -o faulthandler_timeout=7300 tests

# What only a machine with an NVIDIA GPU can show.
gpu-check: setup
	$(BIN)/python -m pytest -m gpu tests
	$(BIN)/python benchmarks/gpu.py

# The recorder as a distribution of its own, az-flightrecorder: it needs torch and numpy only.
recorder-wheel: setup
	@$(BIN)/python .ci/recorder_wheel.py

# The pages as a site, in build/site: it needs no server and no network. A broken link ends it.
docs: $(VENV)/.docs-ready
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html -c docs/site . build/site
	@echo "the first page: build/site/docs/index.html"

$(VENV)/.docs-ready: $(VENV)/.ready
	@$(PYTHON) .ci/install.py $(VENV) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-cpu .venv-integrations build *.egg-info .pytest_cache .ruff_cache
