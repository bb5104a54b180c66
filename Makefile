# Each target sets up .venv by itself, on a bare machine with Python >= 3.11.
#   make quickstart   the whole story on bundled pages: dataset, baseline, fine-tuning, evaluation, comparison
#   make test         all tests, a process on each core; ARGS="tests/cli -x" for some of them
#   make test-gpu     the tests that need an NVIDIA GPU (the torch in .venv must be a CUDA build)
#   make bench-cpu    training and evaluation of nano beside the plain transformers path
#   make lint         style, format and types
#   PYTHON=/path/to/python3.12 make …   to choose the Python

VENV := .venv
BIN := $(VENV)/bin
REQUIRED := pyproject.toml constraints.txt
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
ARGS ?=

.PHONY: quickstart test test-gpu bench-cpu lint

quickstart: $(VENV)/.train
	$(BIN)/ocrsmith quickstart -o quickstart --overwrite

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

test-gpu: $(VENV)/.dev
	$(BIN)/pytest -m gpu tests/gpu $(ARGS)

bench-cpu: $(VENV)/.train
	$(BIN)/python -m benchmarks.cpu $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The stamps keep an installation from being repeated until the requirements change.
$(VENV)/.train: $(REQUIRED)
	$(venv)
	@echo "Installing ocrsmith and torch into $(VENV): a few minutes the first time."
	@$(PIP_INSTALL) -e '.[train]'
	@touch $@

$(VENV)/.dev: $(REQUIRED)
	$(venv)
	@echo "Installing ocrsmith with its test tools into $(VENV): a few minutes the first time."
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.train $@

# A virtual environment that works is kept. Some systems ship Python without venv: hence the trial import.
define venv
@if [ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1; then exit 0; fi; \
for candidate in $(PYTHON) python3.13 python3.12 python3.11 python3 python; do \
  if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    echo "Making $(VENV) with $$($$candidate --version)."; \
    exec $$candidate -m venv --clear $(VENV); \
  fi; \
done; \
echo "Error: no Python 3.11 or newer with its venv module was found." >&2; \
echo "  mend:  install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.12)," >&2; \
echo "         or name it: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
exit 1
endef
