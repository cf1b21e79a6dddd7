#!/usr/bin/env bash
# Writes sql/released/leann--VERSION.sql: what CREATE EXTENSION runs in this version, for updates from it. The
# last step before a release. Refuses once the version is released (CHANGELOG.md no longer says so): from then
# on a change needs a new version and an update script, as sql/README.md explains.
. "$(dirname "$0")/common.sh"

version=$(sed -nE 's/^version = "([0-9.]+)"/\1/p' "$ROOT/Cargo.toml" | head -n 1)
grep -qE "^## ${version//./\\.} \(unreleased\)" "$ROOT/CHANGELOG.md" \
    || die "version $version is released, its schema does not change any more" "see sql/README.md"
mkdir -p "$ROOT/sql/released"
frozen=$ROOT/sql/released/leann--$version.sql
{
    echo "-- What CREATE EXTENSION leann ran in version $version. Written by scripts/freeze_schema.sh."
    # The files that the build joins, without comments.
    cat "$ROOT"/sql/leann.sql "$ROOT"/sql/leann_am.sql "$ROOT"/sql/leann_introspect.sql \
        | sed -E '/^ *--/d; /^ *$/d'
} >"$frozen"
note "written: ${frozen#"$ROOT"/}"
