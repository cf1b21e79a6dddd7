#!/usr/bin/env bash
# Puts the extension, the ONNX Runtime library and the models of .build/models into the Postgres of PG_CONFIG.
#
#     scripts/install.sh             builds first if a source is newer than the last build
#     scripts/install.sh --no-build  only puts back what was built last (cargo pgrx test leaves a debug build)
#
# Every file is copied beside its destination and renamed over it: a running server has these files mapped,
# and overwriting a mapped file kills it.
. "$(dirname "$0")/common.sh"

PROFILE=${PROFILE:-release}  # cargo's
PACKAGE=                     # where `cargo pgrx package` leaves the files, laid out as from /

build() {
    local stamp=$PACKAGE/.built
    local sources=("$ROOT"/Cargo.* "$ROOT"/{leann.control,src,crates,sql})
    if [ -e "$stamp" ] && [ -z "$(find "${sources[@]}" -newer "$stamp" -type f -print -quit)" ]; then
        note "the $PROFILE build is up to date"
        return
    fi
    note "$PROFILE build (about four minutes the first time)"
    rm -rf "$PACKAGE"
    (cd "$ROOT" && cargo pgrx package --pg-config "$PG_CONFIG" --profile "$PROFILE" --no-default-features \
        --features "pg$PG_MAJOR" --out-dir "$PACKAGE" </dev/null >&2)
    touch "$stamp"
}

# put FROM TO: nothing to do where the same file is there already.
put() {
    ! cmp -s "$1" "$2" || return 0
    as_root mkdir -p "$(dirname "$2")"
    # A link that somebody put there is not written through.
    as_root cp --remove-destination "$1" "$2.new"
    as_root chmod "$([ -x "$1" ] && echo 755 || echo 644)" "$2.new"
    as_root mv -f "$2.new" "$2"
    note "installed $2"
}

# put_tree FROM TO [CONDITION ...]: every file below FROM, links followed, names with a leading dot left out;
# only those that meet the conditions of find.
put_tree() {
    local from=$1 to=$2 file
    shift 2
    while IFS= read -r -d '' file; do
        put "$from/$file" "$to/$file"
    done < <(cd "$from" && find -L . -type f -not -path '*/.*' "$@" -printf '%P\0')
}

# put_models FROM TO: the receipt of a model's mapped form (NAME.mapped.json) goes first and comes last, so
# that whoever looks meanwhile, or after an interruption, sees the model without its mapped form and not one
# made of two.
put_models() {
    local receipt stem part
    while IFS= read -r -d '' receipt; do
        stem=${receipt%.mapped.json}
        for part in onnx mapped.onnx mapped.bin mapped.json; do
            if [ -e "$2/$receipt" ] && ! cmp -s "$1/$stem.$part" "$2/$stem.$part"; then
                as_root rm -f "$2/$receipt"
            fi
        done
    done < <(cd "$1" && find -L . -type f -name '*.mapped.json' -not -path '*/.*' -printf '%P\0')
    put_tree "$1" "$2" -not -name '*.mapped.json'
    put_tree "$1" "$2" -name '*.mapped.json'
}

need_pgrx
# One for each server: two of the same version can be installed into in turn.
PACKAGE=$BUILD/package${PG_BIN//\//-}
say "install: into the PostgreSQL $PG_MAJOR of $PG_CONFIG"
if [ "${1:-}" = --no-build ]; then
    [ -e "$PACKAGE/.built" ] || die "nothing was built yet" "run 'make install'"
else
    command -v cargo >/dev/null || die "cargo is missing" "run 'make deps'; it says how to get Rust"
    build
fi
for folder in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)/extension"; do
    put_tree "$PACKAGE$folder" "$folder"
done
# The scripts of earlier releases: `CREATE EXTENSION leann VERSION '...'`, from which the update scripts lead
# on.
for script in "$ROOT"/sql/released/leann--*.sql; do
    installed=$("$PG_CONFIG" --sharedir)/extension/$(basename "$script")
    [ ! -e "$script" ] || [ -e "$PACKAGE$installed" ] || put "$script" "$installed"
done
put "$BUILD/onnxruntime/libonnxruntime.so" "$("$PG_CONFIG" --pkglibdir)/leann/libonnxruntime.so"
[ -d "$BUILD/models" ] && put_models "$BUILD/models" "$("$PG_CONFIG" --sharedir)/leann/models"
note "leann is installed; in a database: CREATE EXTENSION leann;"
