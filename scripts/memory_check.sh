#!/usr/bin/env bash
# The crates' tests (those that know no Postgres and no ONNX Runtime) under a checker of memory accesses:
#
#     scripts/memory_check.sh asan    AddressSanitizer, with the compiler that everything is built with
#     scripts/memory_check.sh miri    Miri, which finds more and is slow; it needs a nightly compiler with that component
#
# What they are for is the unsafe code: SIMD in crates/sketch, one call of matrixmultiply in crates/graph. Miri knows no
# AVX2 by itself, so it checks the portable forms; AddressSanitizer runs what the processor has.
. "$(dirname "$0")/common.sh"

CRATES=(-p leann-page -p leann-value -p leann-sketch -p leann-graph)
cd "$ROOT"

case ${1:-} in
    asan)
        # Only with --target are build scripts and macros, which run inside the compiler, left as they are.
        host=$(rustc -vV | sed -n 's/^host: //p')
        say "AddressSanitizer: ${CRATES[*]}"
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" PROPTEST_CASES=${PROPTEST_CASES:-16} \
            cargo test --quiet --target "$host" --target-dir target/asan --lib --tests "${CRATES[@]}"
        ;;
    miri)
        cargo +nightly miri --version >/dev/null 2>&1 \
            || die "Miri is missing" "rustup toolchain install nightly --component miri rust-src"
        say "Miri: ${CRATES[*]}"
        MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=${PROPTEST_CASES:-2} \
            cargo +nightly miri test --target-dir target/miri --lib --tests "${CRATES[@]}"
        ;;
    *)
        die "asan or miri?" "see the first lines of $0"
        ;;
esac
