# Everyday commands; `make` lists them. PYTHON chooses the interpreter, for example of a virtual environment.
PYTHON ?= python
CHROOT ?= /var/tmp/oxon-sid

.DEFAULT_GOAL := help
.PHONY: help dev test test-rust levels gpu gpu-table gpu-full gpu-cooperative mutants bench lint fmt wheel docs

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

dev:  ## build the extension for development and install it, editable, with what tests and linters need
	$(PYTHON) -m pip install -e ".[test,lint]"

test:  ## all tests, Rust's and Python's
	cargo test && $(PYTHON) -m pytest

test-rust:  ## Rust's tests without Python and without the GPU, the quickest loop
	cargo test --no-default-features

# What computes on the host; `levels` is for processors that have AVX2.
levels:  ## the CPU's tests, Rust's and Python's, kept to AVX2 and to portable code
	set -e; for isa in avx2 portable; do echo "== $$isa"; \
	  OXON_ISA=$$isa cargo test --lib cpu::; OXON_ISA=$$isa $(PYTHON) -m pytest -q -m "not gpu"; done

gpu:  ## the tests that need a Vulkan adapter; fails where there is none
	OXON_REQUIRE_GPU=1 cargo test gpu:: && OXON_REQUIRE_GPU=1 $(PYTHON) -m pytest -m gpu

# What makes tensors, and says nothing of the host alone.
GPU_TABLE = $(patsubst %,tests/test_%.py,structured elementwise amp attention autograd conv data functions in_place init layers \
	losses models nn norm optim random recurrent save schedules tensor train metrics)
CONFIGURATIONS = LP_NATIVE_VECTOR_WIDTH=256 LP_NATIVE_VECTOR_WIDTH=128 \
	$(addprefix OXON_GPU_WITHOUT=,immediates float16 int64 subgroups bindings immediates,float16,int64,subgroups)

gpu-table:  ## the table of operations, layers, losses and optimizers on lavapipe, in one configuration
	OXON_GPU_ADAPTER=llvmpipe OXON_REQUIRE_GPU=1 $(PYTHON) -m pytest --device gpu $(GPU_TABLE)

gpu-full:  ## the whole table of operations, layers, losses, optimizers and examples on lavapipe, in every configuration
	@export OXON_GPU_ADAPTER=llvmpipe OXON_REQUIRE_GPU=1; failed=; \
	for configuration in $(CONFIGURATIONS); do echo "== $$configuration"; \
	  env $$configuration $(PYTHON) -m pytest --device gpu $(GPU_TABLE) || failed="$$failed $$configuration"; \
	  env $$configuration $(PYTHON) -m pytest -m "gpu and not slow" || failed="$$failed $$configuration"; done; \
	echo "== slow ones"; $(PYTHON) -m pytest -m "gpu and slow" || failed="$$failed slow"; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

gpu-cooperative:  ## cooperative matrices, on Mesa 26 in a chroot of Debian's unstable in CHROOT, which it makes; needs root and debootstrap
	test -d $(CHROOT) || debootstrap --variant=minbase --include=libvulkan1,mesa-vulkan-drivers sid $(CHROOT)
	test=$$(cargo test --lib --no-run --message-format=json | grep -o '"executable":"[^"]*"' | tail -1 | cut -d'"' -f4) && \
	  cp $$test $(CHROOT)/oxon-tests && chroot $(CHROOT) env XDG_RUNTIME_DIR=/tmp OXON_REQUIRE_GPU=1 OXON_GPU_COOPERATIVE=1 \
	  /oxon-tests gpu::tests::matmul gpu::tests::conv --test-threads 2

mutants:  ## a hundred random mutations of kernels and gradients, of which the tests must catch 95; takes a quarter of an hour on two idle processors
	$(PYTHON) tests/mutate.py

bench:  ## speed beside NumPy, PyTorch and JAX, as far as they are installed; needs a release build
	$(PYTHON) benches/compare.py

lint:  ## formatting, clippy, ruff, types and stubs
	cargo fmt --check
	cargo clippy --all-targets --features python -- -D warnings
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .
	cd python && $(PYTHON) -m mypy --config-file ../pyproject.toml -p oxon
	cd python && $(PYTHON) -m mypy.stubtest oxon._core --mypy-config-file ../pyproject.toml

fmt:  ## format everything
	cargo fmt && $(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .

wheel:  ## the wheel that is shipped, into dist/
	$(PYTHON) -m pip wheel . --no-deps --wheel-dir dist --config-settings=build-args="--profile dist"

docs:  ## run every example in the docs and docstrings
	$(PYTHON) -m pytest tests/test_docs.py
