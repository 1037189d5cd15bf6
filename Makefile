# async page tables for fork. `make help` lists the targets; the work is done
# by the scripts under tools/ and ci/.

BUILD  ?= build
CACHE  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/async-pgtable
CONFIG ?= base
FUZZ_SECONDS ?= 600
PREFIX ?= /usr/local
export KSRC LIBDIR MEM CPUS DEMO_MB ACCEL ONLY QUICK LIST RESULTS PLOTS UPDATE
export VM_CMD := $(value CMD)
export BUILD := $(abspath $(BUILD))
export CACHE := $(abspath $(CACHE))
export CARGO_TARGET_DIR := $(BUILD)/rust

help: ## this list
	@awk -F': *[a-z ]*## *' '/^[a-z-]+:.*##/ { sub(/:.*/, "", $$1); printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables: CONFIG=base|test|debug|kasan|rt|off|up|norust MEM=2G CPUS=2 CMD= KSRC= BUILD=build'
	@echo '           CACHE=~/.cache/async-pgtable DEMO_MB=1024 ACCEL=auto|tcg|kvm TIMEOUT=3600'
	@echo '           FUZZ_SECONDS=600 PREFIX=/usr/local DESTDIR= LIBDIR=lib'

.DEFAULT_GOAL := help

deps: ## install what the other targets need (root or sudo; or says what is missing)
	@tools/deps

demo: deps ## an unmodified Redis takes exact snapshots, default and async forks in turn
	@tools/demo

test: deps ## everything CI runs: host tests, series, kernels, KUnit, selftests, short demo
	@ci/run

check: ## what needs no kernel build: shell scripts, host tests, check-sync, check-series, check-litmus
	@ci/run tools host check-sync check-series litmus

check-hooks: ## every hook, disabled, is missed by some selftest (15 minutes)
	@tools/check-hooks

hooks-doc: ## Documentation/hooks.rst from ci/hooks; make check compares
	@tools/hooks-doc

check-models: ## models of the Rust core and of the page tables, and the planted bugs they must find (15 minutes)
	@tools/check-models

check-planted: ## faults planted in the kernel are found by selftests (a build each)
	@tools/check-planted

check-litmus: ## hand-overs between Rust, C and CPUs under the kernel's memory model (herd7)
	@tools/series/fetch-base
	@tools/check-litmus

check-rust: ## rustfmtcheck, CLIPPY=1 and rustdoc inside the kernel tree (3 minutes)
	@tools/check-rust

check-harness: ## the C side with the core in user space: sanitizers, and planted bugs (5 minutes)
	@tools/check-harness

fuzz: ## random programs for the same, for FUZZ_SECONDS
	@tools/fuzz $(FUZZ_SECONDS)

coverage: ## lines of the Rust core that no host test reaches
	@tools/coverage

kernel: ## build the kernel of CONFIG
	@tools/kernel $(CONFIG)

vm: ## run CMD in a guest that boots CONFIG (no CMD: a shell)
	@set -- -k $(CONFIG) $(if $(MEM),-m $(MEM)) $(if $(CPUS),-c $(CPUS)) $(if $(TIMEOUT),-t $(TIMEOUT)); \
	if [ -n "$$VM_CMD" ]; then tools/vm/run "$$@" -- "$$VM_CMD"; else tools/vm/run "$$@"; fi

selftests: ## KUnit and the kernel selftests of the feature, in guests (CONFIG=test|debug|kasan|rt)
	@TEST_CONFIG=$(if $(filter file,$(origin CONFIG)),test,$(CONFIG)) ci/run kernel-test kunit selftest-mm selftest-clone3

lib: ## the library for C to BUILD/library, and programs can be built against that
	@tools/library

install-lib: ## the same to DESTDIR/PREFIX: header, shared and static library, pkg-config
	@tools/library '$(PREFIX)' '$(DESTDIR)'

deb: ## packages for Debian and Ubuntu in BUILD/out/deb: kernel of CONFIG, command, library
	@CONFIG='$(CONFIG)' tools/deb

install: ## the command, its man pages and completions to DESTDIR/PREFIX
	@tools/install '$(PREFIX)' '$(DESTDIR)'

parity: ## other people's tests with every fork async and with none, compared (hours)
	@tools/parity

programs: ## unmodified programs (Redis, PostgreSQL, Python, ...) with default and async forks in a guest (PROGRAM=)
	@tools/programs $(PROGRAM)

soak: ## torture and failure injection for hours; tools/soak has the parameters
	@tools/soak

bench: ## the experiments of tools/bench.d, resumed where they were (hours; QUICK=1, ONLY=a,b, LIST=1)
	@tools/bench

plots: ## pictures and README's tables of the results that are committed (RESULTS=DIR PLOTS=DIR)
	@tools/plots

screens: ## pictures of asyncfork watch and doctor beside Redis in a guest (python3-rich, librsvg2-bin, tmux)
	@tools/screens

cost: ## instructions of each operation against ci/costs.json, which UPDATE=1 renews (2 minutes)
	@tools/cost/run

fetch: ## find the base kernel and commit it to BUILD/linux
	@tools/series/fetch-base

apply: ## patches/ onto the base, branch async-pgtable of BUILD/linux
	@tools/series/apply --strict

sync: ## canonical Rust into the commits of the branch
	@tools/series/sync

export: ## sync, then write the branch to patches/
	@tools/series/export

check-sync: ## does the series create exactly rust/kernel, and is it an export?
	@tools/series/check-sync

check-series: ## git am and quilt on both texts, checkpatch, form
	@tools/series/check-series

check-cocci: ## the kernel's semantic patches on the C that the series adds (minutes)
	@tools/series/check-cocci

check-sparse: ## sparse on the lines of C that the series adds (5 minutes)
	@tools/series/check-sparse

check-deb: ## the packages of make deb in a new Debian: installed, booted, upgraded, purged (root, 10 minutes)
	@CONFIG='$(CONFIG)' tools/check-deb

check-each: ## every patch builds with the option on and off (hours)
	@tools/series/check-each

clean: ## remove kernels, logs and host builds; keeps BUILD/linux
	@tools/clean

clean-tree: ## remove BUILD/linux, unless it holds work that is not in patches/
	@tools/clean --tree

.PHONY: help deps demo test check check-hooks check-planted check-models check-litmus check-rust check-harness fuzz coverage kernel vm selftests lib install-lib install deb parity programs soak bench plots screens cost hooks-doc fetch apply sync export check-sync check-series check-cocci check-sparse check-deb check-each clean clean-tree
