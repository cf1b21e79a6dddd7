#!/usr/bin/env bash
# The tests of the crates that know no Postgres and no ONNX Runtime, where more can be seen than in a usual
# run:
#
#     scripts/memory_check.sh asan     AddressSanitizer, with the compiler that everything is built with
#     scripts/memory_check.sh miri     Miri, which sees more and is slow: page, value, others' unsafe code
#     scripts/memory_check.sh aarch64  compiled for 64-bit ARM and run by qemu, for the NEON code
#
# The unsafe code is SIMD in crates/sketch. (crates/embed, which needs the ONNX Runtime, only sets an
# environment variable.)
. "$(dirname "$0")/common.sh"

CRATES=(-p leann-vector -p leann-page -p leann-value -p leann-sketch -p leann-graph -p leann-layout)
# What a test of time would say here means nothing.
NO_TIMES=(--skip thirty_thousand_nodes_cost_little)
cd "$ROOT"

# miri PACKAGE FEATURES ARGUMENT...: it knows the AVX2 instructions that it is told the processor has.
miri() {
    say "Miri: $1${2:+ with $2} ${*:3}"
    MIRIFLAGS=-Zmiri-disable-isolation RUSTFLAGS=${2:+-Ctarget-feature=$2} \
        PROPTEST_CASES=${PROPTEST_CASES:-2} \
        cargo +nightly miri test --target-dir target/miri -p "leann-$1" --lib "${@:3}" | tee "$BUILD/miri.log"
    grep -q '^test result: ok. [1-9]' "$BUILD/miri.log" || die "no test has one of these names: ${*:3}"
}

case ${1:-} in
    asan)
        # Only with --target are build scripts and macros, which run inside the compiler, left as they are.
        host=$(rustc -vV | sed -n 's/^host: //p')
        say "AddressSanitizer: ${CRATES[*]}"
        RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" PROPTEST_CASES=${PROPTEST_CASES:-16} \
            cargo test --quiet --target "$host" --target-dir target/asan --lib --tests "${CRATES[@]}" \
            -- "${NO_TIMES[@]}"
        ;;
    miri)
        cargo +nightly miri --version >/dev/null 2>&1 \
            || die "Miri is missing" "rustup toolchain install nightly --component miri rust-src"
        miri page "" --tests
        miri value "" --tests
        miri sketch "" lut trellis
        [ "$(uname -m)" != x86_64 ] || miri sketch +avx2,+fma lut trellis
        ;;
    aarch64)
        target=aarch64-unknown-linux-gnu
        rustc --print target-libdir --target $target | xargs test -d \
            || die "the Rust library for $target is missing" "rustup target add $target"
        for program in aarch64-linux-gnu-gcc qemu-aarch64; do
            command -v $program >/dev/null || die "$program is missing" \
                "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
        done
        say "aarch64: ${CRATES[*]}"
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
            CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
            PROPTEST_CASES=${PROPTEST_CASES:-16} \
            cargo test --quiet --release --target $target --target-dir target/aarch64 --lib --tests \
            "${CRATES[@]}" -- "${NO_TIMES[@]}"
        ;;
    *)
        die "asan, miri or aarch64?" "see the first lines of $0"
        ;;
esac
