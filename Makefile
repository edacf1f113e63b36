# The commands of this project. Each one sets up what it needs and can be run on its own.
# All of them build the same packages with the same features and profile, so nothing heavy is compiled twice:
# keep `--workspace` (a single package, `-p`, resolves other features and compiles its dependencies again).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Sourced, not exported: it also knows where libclang is once `setup` has installed it.
in_env = . .ci/env.sh;

.PHONY: help setup build test soak sim fuzz check demo bench fmt clean

help: ## Lists these commands.
	@printf 'make <command>:\n'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 10

setup: ## Checks the compilers and installs libclang if it is missing.
	@bash .ci/setup.sh

build: setup ## Builds everything, tests included.
	@$(in_env) say "build"; cargo build --workspace --all-targets --locked

test: build ## Runs every test (ARGS="name" to choose; ARGS="-- --nocapture" for output).
	@$(in_env) say "test"; with_proofs cargo test --workspace --locked --no-fail-fast $(ARGS)

soak: build ## Runs the suites that prove the books at full size, which takes hours (NAME="slots" for one; HOURS=2 for twenty nodes under load for so long, and nothing else).
	@$(in_env) with_proofs $(if $(HOURS),endure $(HOURS),soak $(NAME))

sim: build ## Runs simulated worlds (SEEDS=200 NODES=7), or one: SEED=42 TRACE=1 tells and draws it, KEEP=1 keeps it as a test, FILE="my.toml" runs a scenario.
	@$(in_env) "$$CARGO_TARGET_DIR/debug/sim" $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) $(if $(NODES),--nodes $(NODES)) $(if $(SEED),--seed $(SEED)) $(if $(FILE),--file "$(FILE)") $(if $(LARGE),--large $(LARGE)) $(if $(filter-out 0,$(TRACE)),--trace) $(if $(NODE),--node $(NODE)) $(if $(JOB),--job $(JOB)) $(if $(filter-out 0,$(KEEP)),--keep)

# Half of the time for whole links, half for all decoders in turn.
fuzz: setup ## Gives damaged bytes to every decoder that a peer can reach, and to links (FOR=60, in seconds).
	@$(in_env) say "fuzz"; FUZZ_SECONDS=$$(( ($(or $(FOR),60) + 1) / 2 )) with_proofs cargo test --workspace --locked --test fuzz_frames --test fuzz_decoders -- --nocapture

check: setup ## Format, lints, documentation, dependencies: all short of running it.
	@bash .ci/check.sh

# `exec`: signals reach the demo itself, which leaves nothing behind.
demo: build ## Shows a mesh at work: a picture, rendered by four nodes (KILL=1 kills one half-way; KEEP=1 keeps the logs).
	@$(in_env) exec "$$CARGO_TARGET_DIR/debug/examples/demo" $(if $(filter-out 0,$(KILL)),--kill) $(if $(filter-out 0,$(KEEP)),--keep) $(ARGS)

bench: build ## Measures and rewrites BENCHMARKS.md (NAME="job" for one group: job, idle, storage, trust, node, crates, build, sim, actors, remote, remote_runs; STRICT=1 fails where a bar is missed).
	@$(in_env) "$$CARGO_TARGET_DIR/debug/bench" $(NAME) $(if $(filter-out 0,$(STRICT)),--strict)

fmt: ## Formats the code.
	@$(in_env) cargo fmt --all

clean: ## Removes everything built (the next build compiles the dependencies again).
	@$(in_env) cargo clean
