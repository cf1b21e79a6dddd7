#!/usr/bin/env bash
# Formatting and clippy, warnings as errors, for the whole workspace and all targets.
. "$(dirname "$0")/common.sh"

need_pgrx
cd "$ROOT"
say "lint: cargo fmt --check"
cargo fmt --all --check
say "lint: cargo clippy"
cargo clippy --workspace --all-targets --no-default-features --features "leann/pg$PG_MAJOR leann/pg_test" -- -D warnings
