#!/usr/bin/env bash
# The tests on a server that checks itself: Postgres 15 from Debian's source package, built with
# --enable-cassert, and the extension as a debug build, so that both sides look at every lock, pin, memory
# context and page that they touch.
#
#     scripts/assert.sh [WORD ...]   the tests of tests/run for each word; else regress, isolation and server/
#
# The server is built once, into ASSERT_PREFIX (.build/assert/server), in about five minutes; our own part in
# target/assert, in about as much. Neither the installed Postgres nor pgrx's settings are touched.
. "$(dirname "$0")/common.sh"

ASSERT=$BUILD/assert
PREFIX=${ASSERT_PREFIX:-$ASSERT/server}
PACKAGE=postgresql-15

# apt with lists of its own: the system's may not name source packages, and are not ours to change.
apt() {
    local program=$1
    shift
    "$program" -o Dir::Etc::SourceList="$ASSERT/apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$ASSERT/apt/lists" -o Dir::Cache="$ASSERT/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" -qq "$@" </dev/null
}

# The newest source that can be had: a mirror may name one that it does not hold.
fetch_source() {
    mkdir -p "$ASSERT/apt/lists/partial" "$ASSERT/apt/cache" "$ASSERT/source"
    # shellcheck disable=SC2016 # apt-get fills these in
    apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' \
        | sort -u >"$ASSERT/apt/sources.list"
    note "fetching the source package of $PACKAGE"
    apt apt-get update >&2
    local version versions
    versions=$(apt apt-cache showsrc "$PACKAGE" | sed -n 's/^Version: //p' | sort -rVu)
    for version in $versions; do
        (cd "$ASSERT/source" && apt apt-get source --download-only "$PACKAGE=$version" >&2) && break
        note "$version cannot be had"
    done
    tar -xjf "$(ls "$ASSERT/source/$PACKAGE"_*.orig.tar.bz2)" -C "$ASSERT/source"
}

build_server() {
    if [ -x "$PREFIX/bin/postgres" ]; then
        note "the server with assertions is there: $PREFIX"
        return
    fi
    command -v make >/dev/null && command -v bzip2 >/dev/null \
        || die "make and bzip2 are needed to build Postgres" "apt-get install make bzip2"
    [ -d "$ASSERT/source" ] && ls "$ASSERT/source"/*/configure >/dev/null 2>&1 || fetch_source
    note "building Postgres with assertions (about five minutes)"
    (
        cd "$(dirname "$(ls "$ASSERT/source"/*/configure)")"
        unset MAKEFLAGS MFLAGS MAKELEVEL # of a make that runs this
        # The source package has the files that bison and flex would make.
        ./configure --prefix="$PREFIX" --enable-cassert --enable-debug --without-readline --without-zlib \
            CFLAGS=-O1 \
            && make -s -j"$(nproc)" -C src \
            && make -s -C src install
    ) >"$ASSERT/build.log" 2>&1 || {
        tail -n 30 "$ASSERT/build.log" >&2
        die "Postgres could not be built" "the log: $ASSERT/build.log"
    }
}

say "assert: Postgres with assertions"
mkdir -p "$ASSERT"
build_server
export PG_CONFIG=$PREFIX/bin/pg_config CARGO_TARGET_DIR=$ROOT/target/assert PROFILE=dev
"$ROOT/scripts/install.sh"
[ $# -gt 0 ] || set -- regress isolation server/
status=0
for word in "$@"; do
    "$ROOT/tests/run" "$word" || status=1
done
exit $status
