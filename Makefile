# Each target sets up .venv by itself, on a bare machine with Python >= 3.11.
#   make quickstart   the whole story on bundled pages: dataset, baseline, fine-tuning, evaluation, comparison
#   make test         all tests, a process on each core; ARGS="tests/cli -x" for some of them
#   make test-gpu     the tests that need an NVIDIA GPU (the torch in .venv must be a CUDA build)
#   make test-vllm    vLLM on a CPU: train, export, evaluate, serve; in an environment of its own (2.5 GB, half an hour)
#   make bench-cpu    training and evaluation of nano beside the plain transformers path
#   make lint         style, format and types
#   PYTHON=/path/to/python3.12 make …   to choose the Python

VENV := .venv
BIN := $(VENV)/bin
REQUIRED := pyproject.toml constraints.txt
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
ARGS ?=
VLLM_VENV := .venv-vllm
VLLM_TESTS := tests/engines/vllm_real

.PHONY: quickstart test test-gpu test-vllm bench-cpu lint

quickstart: $(VENV)/.train
	$(BIN)/ocrsmith quickstart -o quickstart --overwrite

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(ARGS)

test-gpu: $(VENV)/.dev
	$(BIN)/pytest -m gpu tests/gpu $(ARGS)

test-vllm: $(VLLM_VENV)/.ready
	PYTHONPATH=$(VLLM_TESTS)/site VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_NUM_OF_RESERVED_CPU=0 HF_HUB_OFFLINE=1 \
	  VLLM_NO_USAGE_STATS=1 $(VLLM_VENV)/bin/python -m pytest -m vllm -o filterwarnings= $(VLLM_TESTS) $(ARGS)

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

# vLLM pins its own versions, so constraints.txt does not apply; three packages that a CPU build cannot load go.
$(VLLM_VENV)/.ready: pyproject.toml $(VLLM_TESTS)/requirements.txt
	@echo "Installing a CPU build of vLLM into $(VLLM_VENV): some minutes."
	@$(or $(PYTHON),python3) -m venv $(VLLM_VENV)
	@$(VLLM_VENV)/bin/python -m pip install -qq --disable-pip-version-check -r $(VLLM_TESTS)/requirements.txt
	@$(VLLM_VENV)/bin/python -m pip uninstall -qq -y triton torchaudio torchcodec
	@$(VLLM_VENV)/bin/python -m pip install -qq --disable-pip-version-check -e '.[train,serve]'
	@touch $@

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
