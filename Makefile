# `make help` lists the targets. Everything happens in .venv; stamps in it make a second call quick.
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo $$p; break; }; done)
PIP := $(BIN)/python tools/pip_progress.py
free_gb = $$(df -Pk $(1) | awk 'NR == 2 { printf "%.1f", $$4 / 1048576 }')
CLANG_FILES = $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh') $(wildcard python_tests/host_cuda/*.cpp tools/*.cu)

.DEFAULT_GOAL := help
.PHONY: help train test build bench lint format docs docs-serve cuda cuda-report gpu-check test-abi test-transformers test-sanitize test-host-cuda wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo "ARGS=... is passed on: make train ARGS='config=camvid data.root=/data/camvid', make test ARGS='-k assignment'"

train: $(STAMPS)/train build ## set everything up, then train on the embedded digits (or ARGS='config=...')
	$(BIN)/python -m maskformer_ext.train $(or $(ARGS),config=digits)

test: $(STAMPS)/dev build ## set everything up, then run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

build: $(STAMPS)/train ## compile what changed of the native libraries; for the GPU here too, if there is one
	@$(BIN)/python setup.py -q build_ext --inplace

bench: $(STAMPS)/dev build ## run the benchmarks against their peers, print the table, keep it in benchmarks/results/
	$(BIN)/python -m pytest benchmarks --record $(ARGS)

lint: $(STAMPS)/dev ## check style, types and prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CLANG_FILES)
	$(BIN)/mypy maskformer_ext benchmarks tools python_tests examples
	$(BIN)/python tools/prose.py

format: $(STAMPS)/dev ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CLANG_FILES)

docs: $(STAMPS)/dev ## build the documentation as a site, in build/site; a warning is an error
	@$(BIN)/python tools/docs_site.py $(ARGS)

docs-serve: $(STAMPS)/dev ## show the documentation at http://localhost:8000 while you write
	@$(BIN)/python tools/docs_site.py --serve $(ARGS)

cuda: $(STAMPS)/train ## build with the CUDA library for every GPU, and fail where nvcc is missing
	@CMAKE_ARGS="-DMASKFORMER_EXT_CUDA=ON -DMASKFORMER_EXT_CUDA_ALL=ON $(CMAKE_ARGS)" \
	  $(BIN)/python setup.py -q build_ext --inplace

cuda-report: $(STAMPS)/train ## print registers, spills, hottest loops and estimates of the CUDA kernels; no GPU needed
	@$(BIN)/python tools/cuda_report.py $(ARGS)

gpu-check: ## build, test, sanitize and measure on this machine's GPU in 9 minutes; installs nothing
	@$(or $(wildcard $(BIN)/python),$(PYTHON)) tools/gpu_check.py $(ARGS)

test-abi: $(STAMPS)/dev ## build against this torch, test under older ones in environments of their own
	$(BIN)/python tools/abi.py $(ARGS)

test-transformers: $(STAMPS)/dev build ## run the tests of the integrations under older versions of transformers
	$(BIN)/python tools/transformers_versions.py $(ARGS)

test-sanitize: $(STAMPS)/dev ## run the tests of the ops on kernels built with AddressSanitizer and UBSan
	$(BIN)/python tools/sanitize.py $(ARGS)

test-host-cuda: $(STAMPS)/dev build ## run the CUDA kernels on the host, without a GPU, against the CPU's results
	$(BIN)/python tools/host_cuda.py $(ARGS)

wheel: $(STAMPS)/dev ## build the source distribution and the wheel in dist/, for every Python, and check both
	$(BIN)/python tools/wheel.py $(ARGS)

clean: ## remove what was built, keep .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f maskformer_ext/*.so
	rm -f $(STAMPS)/train $(STAMPS)/dev

$(STAMPS)/tools: setup.py
	@test -n "$(PYTHON)" || { \
	  echo "maskformer-ext needs Python 3.10 or newer and found none: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "maskformer-ext needs Python 3.10 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1)"; exit 1; }
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -m venv $(VENV); } || { \
	  echo "$(PYTHON) cannot create a virtual environment: install its venv module (Debian: apt install python3-venv)"; exit 1; }
	@echo "Installing torch and the build tools (several GB, a few minutes)"
	@$(PIP) install "setuptools>=77" wheel "cmake>=3.26" ninja "torch>=2.11" numpy || { \
	  echo "The installation failed (see above). On Linux torch and its CUDA libraries take 6.5 GB in $(VENV), and pip 3 GB in $${TMPDIR:-/tmp}" \
	    "while it unpacks them; free are $(call free_gb,.) GB and $(call free_gb,$${TMPDIR:-/tmp}) GB."; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/train: pyproject.toml $(STAMPS)/tools
	@echo "Compiling the native libraries (a minute or two)"
	@$(BIN)/python setup.py -q build_ext --inplace
	@echo "Installing the package with what training needs"
	@$(PIP) install --no-build-isolation -e ".[train]"
	@touch $@

$(STAMPS)/dev: pyproject.toml $(STAMPS)/train
	@echo "Installing what the tests and benchmarks need"
	@$(PIP) install --no-build-isolation -e ".[dev]"
	@# without what it requires: the scores need NumPy, Pillow and pyquaternion only, and the list has a "typing" for Python 2
	@$(PIP) install --no-deps "cityscapesscripts>=2.3,<3"
	@touch $@
