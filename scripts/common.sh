# shellcheck shell=bash
# Sourced by the other scripts: where things are, how to say what is done, how to become root or the server's
# user.
#
# Sets ROOT (the repository), BUILD (its git-ignored scratch folder), PG_CONFIG, PG_BIN, PG_MAJOR (the last
# two only once Postgres is there), and puts cargo into PATH. Every script that sources this runs with `set
# -euo pipefail`.

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$ROOT/.build
PG_CONFIG=${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}
MODEL=${MODEL:-all-MiniLM-L6-v2}

# What is being done, for the person who watches; results go to stdout, this goes to stderr.
say() { printf '== %s\n' "$*" >&2; }
note() { printf '   %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local line
    for line in "$@"; do printf '       %s\n' "$line" >&2; done
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if is_root; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "root is needed for: $*" "run this as root, or install sudo"
    fi
}

# Postgres refuses to run as root: then its processes belong to the user that the Debian package creates.
server_user() { if is_root; then echo postgres; else id -un; fi; }

# Runs a command as the server's user, in a directory that this user can enter and without a Rust backtrace
# setting, which would add a long DETAIL to every error.
as_server() {
    if is_root; then
        (cd / && env -u RUST_BACKTRACE -u LANG -u LC_ALL HOME="${SERVER_HOME:-/tmp}" \
            setpriv --reuid=postgres --regid=postgres --init-groups -- "$@")
    else
        (cd / && env -u RUST_BACKTRACE -u LANG -u LC_ALL "$@")
    fi
}

# Postgres itself, as PG_CONFIG describes it.
need_postgres() {
    [ -x "$PG_CONFIG" ] || die "no pg_config at $PG_CONFIG" \
        "'make deps' installs PostgreSQL 15, or set PG_CONFIG=/path/to/pg_config"
    PG_BIN=$("$PG_CONFIG" --bindir)
    PG_MAJOR=$("$PG_CONFIG" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
    [ -x "$PG_BIN/postgres" ] \
        || die "no server programs in $PG_BIN" "'make deps' installs them for PostgreSQL 15"
}

# The same for who builds: pgrx is told of this server only, in a folder of its own. What ~/.pgrx names is its
# owner's matter, and one server there that is gone would stop every build.
need_pgrx() {
    need_postgres
    export PGRX_HOME=$BUILD/pgrx${PG_BIN//\//-}
    local config
    config=$(printf '[configs]\npg%s = "%s"' "$PG_MAJOR" "$PG_CONFIG")
    mkdir -p "$PGRX_HOME"
    [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$config" ] || echo "$config" >"$PGRX_HOME/config.toml"
}

# cargo as rustup leaves it, also where sudo has emptied PATH and changed HOME.
find_cargo() {
    local home
    for home in "$HOME" "$(getent passwd "${SUDO_USER:-$(id -un)}" | cut -d: -f6)"; do
        if ! command -v cargo >/dev/null && [ -x "$home/.cargo/bin/cargo" ]; then
            export PATH="$home/.cargo/bin:$PATH"
            export CARGO_HOME=${CARGO_HOME:-$home/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$home/.rustup}
        fi
    done
}

# The compiler of rust-toolchain.toml. rustup fetches it if need be; where it has the same one as its
# `stable`, that is taken instead, since a machine without access to the network cannot fetch it a second time
# under its number.
find_toolchain() {
    local pin toolchains=${RUSTUP_HOME:-$HOME/.rustup}/toolchains
    pin=$(sed -nE 's/^channel = "(.*)"/\1/p' "$ROOT/rust-toolchain.toml")
    if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && ! compgen -G "$toolchains/$pin-*" >/dev/null \
        && compgen -G "$toolchains/stable-*" >/dev/null \
        && [[ $(RUSTUP_TOOLCHAIN=stable rustc --version 2>/dev/null) == "rustc $pin "* ]]; then
        export RUSTUP_TOOLCHAIN=stable
    fi
}

# The project's own Python (numpy, onnx, ...), made by deps.sh.
# shellcheck disable=SC2034
VENV_PYTHON=$BUILD/venv/bin/python

find_cargo
find_toolchain
