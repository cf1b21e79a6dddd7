#!/usr/bin/env bash
# Writes sql/released/leann--VERSION.sql: what CREATE EXTENSION runs in this version, for the test of updates. Refuses once the
# version is released (CHANGELOG.md no longer says so): from then on a change needs a new version and an update script, as
# sql/README.md explains.
. "$(dirname "$0")/common.sh"

need_postgres
version=$(sed -nE 's/^version = "([0-9.]+)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
grep -qE "^## ${version//./\\.} \(unreleased\)" "$ROOT/CHANGELOG.md" \
    || die "version $version is released, its schema does not change any more" "see sql/README.md"
"$ROOT/scripts/install.sh"
frozen=$ROOT/sql/released/leann--$version.sql
{
    echo "-- What CREATE EXTENSION leann ran in version $version. Written by scripts/freeze_schema.sh."
    # Without comments, which hold line numbers of the sources.
    sed -E '/^\/\*.*\*\/$/d; /^\/\*/,/\*\/$/d; /^ *--/d; /^ *$/d' "$("$PG_CONFIG" --sharedir)/extension/leann--$version.sql"
} >"$frozen"
note "written: ${frozen#"$ROOT"/}"
