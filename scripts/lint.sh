#!/usr/bin/env bash
# Everything that finds faults without running the code; each finding fails:  scripts/lint.sh [STEP ...]
#
#     fmt         cargo fmt --check
#     clippy      warnings as errors, all targets of the workspace, for the Postgres of PG_CONFIG
#     doc         cargo doc of the workspace, warnings as errors
#     ruff        the Python code (ruff.toml)
#     shell       shellcheck, on all shell scripts (.shellcheckrc)
#     width       no line over 110 columns (scripts/check_width.py)
#     imports     no import runs up the layers of src or in a circle (scripts/check_imports.py)
#     checks      unit tests of those two
#     deny        licenses, bans and sources of the dependencies (deny.toml), where cargo-deny is installed
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

STEPS=(fmt clippy doc ruff shell width imports checks deny)

# The tests are in a feature of the package leann; the crates have none.
features() { echo "leann/pg$PG_MAJOR leann/pg_test"; }

# The fuzz targets are a workspace of their own.
fmt() { cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check; }

clippy() {
    cargo clippy --workspace --all-targets --no-default-features --features "$(features)" -- -D warnings
}

# With --examples the dependencies have the features that they have in clippy's build, which is used again.
doc() {
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --lib --examples --no-deps --document-private-items \
        --no-default-features --features "$(features)"
}

ruff() {
    [ -x "$BUILD/venv/bin/ruff" ] || die "ruff is missing" "run 'make deps'"
    "$BUILD/venv/bin/ruff" check --quiet .
}

shell() {
    local files=() file
    command -v shellcheck >/dev/null || die "shellcheck is missing" "run 'make deps'"
    while IFS= read -r -d '' file; do
        case ${file##*/} in
            *.sh) files+=("$file") ;;
            *.*) ;;
            *) ! head -c 64 "$file" | grep -qaE '^#!.*sh$' || files+=("$file") ;;
        esac
    done < <(git ls-files -z 2>/dev/null || find scripts tests benches tools .ci -type f -print0)
    shellcheck --severity=warning "${files[@]}"
}

width() { python3 scripts/check_width.py; }

imports() { python3 scripts/check_imports.py; }

checks() { python3 -m unittest discover --start-directory tests/lint; }

deny() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --offline check bans licenses sources
    else
        note "cargo-deny is not installed: cargo install cargo-deny --locked"
    fi
}

need_pgrx
cd "$ROOT" || exit
[ $# -gt 0 ] || set -- "${STEPS[@]}"
failed=()
for step in "$@"; do
    [[ " ${STEPS[*]} " == *" $step "* ]] || die "no step is called '$step'" "there are: ${STEPS[*]}"
    say "lint: $step"
    ("$step") </dev/null || failed+=("$step")
done
[ ${#failed[@]} -eq 0 ] || die "lint: ${failed[*]}"
