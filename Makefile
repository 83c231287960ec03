# What a user needs: `make run` and `make test`. Each brings what is missing first, and nothing that is there.

RECIPE ?= recipes/multitask.yaml
ARGS ?=

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Parts brought into another folder than .deps: libtorch is there too, unless it is the user's own.
ifdef OPDFLOW_DEPS
export OPDFLOW_DEPS := $(abspath $(OPDFLOW_DEPS))
export LIBTORCH ?= $(OPDFLOW_DEPS)/libtorch
endif

.DEFAULT_GOAL := help
.PHONY: help run test test-less lint fmt build dist setup peers

help:
	@echo 'make run    build opdflow and run a recipe [RECIPE=$(RECIPE)] [ARGS="--set name=value ..."]'
	@echo 'make test   all tests'
	@echo 'make test-less   the same with fewer instructions of the processor [LESS=avx2 or sse]'
	@echo 'make peers  images, adapters and OCR against diffusers, peft and RapidOCR themselves; fetches 5 GB of Python packages'
	@echo 'make lint   formatting, clippy, documentation; warnings are errors'
	@echo 'make fmt    format the sources'
	@echo 'make build  target/release/opdflow'
	@echo 'make dist   dist/opdflow-VERSION-linux-x86_64.tar.gz: the programs with all that they need'
	@echo 'make setup  libtorch, ONNX Runtime and PP-OCR into .deps/; the others do this by themselves'

run: build
	$(TARGET)/release/opdflow run $(RECIPE) $(ARGS)

# What needs no libtorch is built while libtorch is fetched: the rest of that build fails without it, which is no matter.
build:
	@if [ -d "$${LIBTORCH:-$${OPDFLOW_DEPS:-.deps}/libtorch}" ] || [ -n "$${LIBTORCH_USE_PYTORCH:-}" ]; then scripts/setup.sh; else \
		echo 'building what needs no libtorch while it is fetched'; \
		$(CARGO) build --release --locked --keep-going >/dev/null 2>&1 & \
		scripts/setup.sh; fetched=$$?; wait; exit $$fetched; \
	fi
	$(CARGO) build --release --locked

# An archive that runs on any Linux x86-64 with a C library as new as this machine's.
dist: build
	scripts/dist.sh $(TARGET)/release

# The engine alone first: it is quick to build, and it must do without libtorch. It shares most of its crates with the rest.
# One thread for libtorch in each test: several are slower than one when tests run side by side.
# All tests run, whatever fails: the last line says which programs did.
test: export OMP_NUM_THREADS = 1
test: setup
	@status=0; \
	$(CARGO) test --locked --no-fail-fast --package opdflow --no-default-features || status=1; \
	$(CARGO) test --locked --no-fail-fast --workspace || status=1; \
	exit $$status

# The same with fewer of the processor's instructions than it has: what is promised as equal must hold on any x86-64
# machine. LESS=avx2 is a machine without AVX-512, LESS=sse one without AVX.
LESS ?= avx2
test-less: export ATEN_CPU_CAPABILITY = $(if $(filter avx2,$(LESS)),avx2,default)
test-less: export ONEDNN_MAX_CPU_ISA = $(if $(filter avx2,$(LESS)),AVX2,SSE41)
test-less: export MKL_CBWR = $(if $(filter avx2,$(LESS)),AVX2,COMPATIBLE)
test-less: test

# The families' modules are declared by a macro, into which rustfmt does not look (stages/spec/src/families/mod.rs).
FORMAT_FAMILIES = rustfmt --edition 2024 $(wildcard stages/spec/src/families/*/mod.rs stages/models/src/families/*/mod.rs)

lint: export RUSTDOCFLAGS = -D warnings -A rustdoc::private_intra_doc_links
lint: setup
	$(CARGO) fmt --all --check -- -l
	$(FORMAT_FAMILIES) --check -l
	@# The build for machines that only plan: no libtorch is there for it to find.
	LIBTORCH=/nonexistent OPDFLOW_DEPS=/nonexistent $(CARGO) clippy --locked --package opdflow --no-default-features --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) doc --locked --workspace --no-deps --document-private-items

# Every script prints its figures and fails if one is too low. OPDFLOW is the program that is tried.
peers: export OMP_NUM_THREADS = 1
peers: build
	@python=$$(scripts/peers.sh) && for what in adapters bases ocr; do \
		echo "== $$what" && OPDFLOW=$(abspath $(TARGET))/release/opdflow $$python -W ignore tests/peers/$$what.py || exit 1; \
	done

fmt:
	$(CARGO) fmt --all
	$(FORMAT_FAMILIES)

setup:
	@scripts/setup.sh
