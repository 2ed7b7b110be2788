# `make run` does the main job in about a minute (after the first build); `make test` runs all tests.
#
# DuckDB comes as a prebuilt library where one fits (Linux on x86_64 with glibc, npm and network at hand), checked by
# its hash. Everywhere else it is compiled from source, which needs a C++ compiler and some 20 minutes on two cores.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := run
.PHONY: run test build install uninstall deps clean fmt lint

CARGO ?= cargo
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/twintier

# A build machine starts from a fresh clone each time: its objects live beside the library.
ifdef CI
export CARGO_TARGET_DIR ?= $(CACHE)/target
endif

# Exports DUCKDB_LIB_DIR and sets `features` to what cargo is given.
LIBRARY = folder=$$(scripts/duckdb.sh --quiet); \
	if [ -n "$$folder" ]; then \
		export DUCKDB_LIB_DIR=$$folder LD_LIBRARY_PATH="$$folder$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}"; \
		features="--no-default-features --features twintier/appliance"; \
	else features=""; fi

# The program itself instead of `cargo run`: it takes the siblings that `build` has just put beside it.
run: build
	@$(LIBRARY); exec env --unset=CARGO "$${CARGO_TARGET_DIR:-target}/release/bench" quick

build: deps
	@$(LIBRARY); echo "building twintier, loadgen and bench"; \
	$(CARGO) build --release --workspace --bins $$features

# What was built before: `make build && sudo make install PREFIX=/usr/local`. DESTDIR is put before every path.
install uninstall:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install.sh $@

test: deps
	@$(LIBRARY); $(CARGO) test --release --workspace $$features

deps:
	@scripts/duckdb.sh > /dev/null

lint: deps
	@$(LIBRARY); $(CARGO) clippy --release --workspace --all-targets $$features -- --deny warnings; $(CARGO) fmt --all --check

fmt:
	$(CARGO) fmt --all

clean:
	$(CARGO) clean
