#!/usr/bin/env bash
# Fuzzes all code that reads bytes or text from elsewhere (fuzz/), for SECONDS_EACH seconds per target:
#
#     scripts/fuzz.sh [TARGET ...]
#
# Prints `ok TARGET` or `not ok TARGET`. It runs libFuzzer as cargo-fuzz does, but with flags that a stable
# compiler knows; these crates have no unsafe code for a sanitizer to watch. New inputs go to .build/fuzz, not
# to the seeds in fuzz/corpus; an input that fails is kept there too and its path is shown. Where a nightly
# compiler and cargo-fuzz are installed, `cargo +nightly fuzz run TARGET` runs the same targets.
. "$(dirname "$0")/common.sh"

SECONDS_EACH=${SECONDS_EACH:-8}
FUZZ=$ROOT/fuzz
WORK=$BUILD/fuzz
HOST=$(rustc -vV | sed -n 's/^host: //p')
# Coverage of branches and compared values for the crates, but not (thanks to --target) for build scripts.
COVERAGE="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"

say "fuzz: building"
(cd "$FUZZ" && RUSTFLAGS=$COVERAGE CXX=${CXX:-clang++} \
    cargo build --quiet --release --locked --target "$HOST" --target-dir "$WORK/target" </dev/null)

# Folders of models, in memory where that can be had: each input writes some files.
LEANN_FUZZ_FOLDER=$(mktemp -d /dev/shm/leann-fuzz.XXXXXX 2>/dev/null || mktemp -d)
export LEANN_FUZZ_FOLDER
trap 'rm -rf "$LEANN_FUZZ_FOLDER"' EXIT

status=0
[ $# -gt 0 ] || set -- node hub meta params literal bytes sketcher onnx settings ring
for target in "$@"; do
    mkdir -p "$WORK/found/$target" "$WORK/failed"
    if "$WORK/target/$HOST/release/$target" -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -artifact_prefix="$WORK/failed/$target-" "$WORK/found/$target" "$FUZZ/corpus/$target" \
        >"$WORK/$target.log" 2>&1; then
        echo "ok $target ($(sed -nE 's/^Done ([0-9]+) runs.*/\1 runs/p' "$WORK/$target.log"))"
    else
        status=1
        echo "not ok $target"
        tail -n 30 "$WORK/$target.log"
    fi
done
exit $status
