#!/usr/bin/env bash
# Everything needed to build and to run: system packages, cargo-pgrx, a Python with the model tools, the ONNX
# Runtime library. Looks first and does only what is missing, so a second run takes a second. Rust itself is
# expected.
#
#     scripts/deps.sh                      all of it
#     scripts/deps.sh rust python_tools    some of it, by the names of the functions below
. "$(dirname "$0")/common.sh"

RUST_MINIMUM=$(sed -nE 's/^rust-version = "([0-9.]+)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
RUST_PINNED=$(sed -nE 's/^channel = "(.*)"/\1/p' "$ROOT/rust-toolchain.toml")
PGRX_VERSION=$(sed -nE 's/^pgrx = "=([0-9.]+)"/\1/p' "$ROOT/Cargo.toml")

# PostgreSQL comes from Debian unless PG_CONFIG points elsewhere; the rest is what pgrx's bindings, the linker
# and the scripts need. libclang reads the server's headers, openssl is for cargo-pgrx.
system_packages() {
    local packages=(ca-certificates clang gcc libc6-dev libclang-dev libssl-dev pkg-config
        python3 python3-venv shellcheck sudo)
    local debian='^/usr/lib/postgresql/([0-9]+)/bin/pg_config$'
    if [[ $PG_CONFIG =~ $debian ]]; then
        packages+=("postgresql-${BASH_REMATCH[1]}" "postgresql-server-dev-${BASH_REMATCH[1]}")
    fi
    local missing=() package
    for package in "${packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed \
            || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        note "system packages: all there"
        return
    fi
    command -v apt-get >/dev/null \
        || die "no apt-get on this system" "install the equivalents of: ${missing[*]}"
    note "system packages: installing ${missing[*]}"
    as_root apt-get update -qq </dev/null
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2
}

# The compiler of rust-toolchain.toml, where rustup runs it; any compiler from RUST_MINIMUM on builds, but
# clippy's warnings are those of the pinned one.
rust() {
    local have
    local how=("install it with rustup (https://rustup.rs):"
        "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
        "and, if rustup is not to fetch compilers by itself, in this directory:"
        "    rustup toolchain install")
    command -v cargo >/dev/null && command -v rustc >/dev/null \
        || die "Rust is missing; $RUST_PINNED is needed" "${how[@]}"
    have=$(cd "$ROOT" && rustc --version | cut -d' ' -f2) \
        || die "Rust $RUST_PINNED, which rust-toolchain.toml names, is missing" "${how[@]}"
    [ "$(printf '%s\n' "$RUST_MINIMUM" "${have%%-*}" | sort -V | head -n 1)" = "$RUST_MINIMUM" ] \
        || die "Rust $have is too old; $RUST_MINIMUM or newer is needed" "${how[@]}"
    note "Rust $have$([ "$have" = "$RUST_PINNED" ] || echo "; 'make lint' is meant for $RUST_PINNED")"
}

cargo_pgrx() {
    if [ "$(cargo pgrx --version 2>/dev/null)" = "cargo-pgrx $PGRX_VERSION" ]; then
        note "cargo-pgrx $PGRX_VERSION: there"
    else
        note "cargo-pgrx $PGRX_VERSION: building it (about four minutes)"
        cargo install cargo-pgrx --version "$PGRX_VERSION" --locked --quiet </dev/null
    fi
}

# The tools that fetch and convert models, and ruff, run in a Python of their own.
python_tools() {
    local wanted=$ROOT/tools/requirements.txt have=$BUILD/venv/requirements.txt
    if cmp -s "$wanted" "$have"; then
        note "Python tools: there"
        return
    fi
    note "Python tools: installing into .build/venv"
    rm -rf "$BUILD/venv"
    python3 -m venv "$BUILD/venv"
    "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps \
        --require-hashes -r "$wanted" </dev/null >&2
    cp "$wanted" "$have"
}

onnxruntime() {
    if [ -e "$BUILD/onnxruntime/libonnxruntime.so" ]; then
        note "ONNX Runtime library: there"
    else
        note "ONNX Runtime library: fetching into .build/onnxruntime"
        "$VENV_PYTHON" "$ROOT/tools/fetch_onnxruntime.py" "$BUILD/onnxruntime" >&2
    fi
}

say "deps: what building and running need"
mkdir -p "$BUILD"
[ $# -gt 0 ] || set -- rust system_packages cargo_pgrx need_postgres python_tools onnxruntime
for part in "$@"; do
    "$part"
done
