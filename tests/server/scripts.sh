#!/usr/bin/env bash
# The scripts, where others may have been before them: files and links that the server's user has planted in a cluster's
# directories while root works on it, folders of models that lead elsewhere, an installation that stops halfway.
#
# Prints `ok ...` or `not ok ...`. The first part needs root, as whom alone there is a server's user to be wary of.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/cluster.sh"

status=0
SCRATCH=$(mktemp -d /tmp/leann-scripts.XXXXXX)
chmod 755 "$SCRATCH"
trap 'rm -rf "$SCRATCH"' EXIT

expect() { # NAME COMMAND...
    local name=$1
    shift
    if "$@"; then echo "ok $name"; else status=1; echo "not ok $name"; fi
}

# A folder of somebody's, which must come out of all this as it was.
victim=$SCRATCH/victim
victim_is_whole() { [ "$(cat "$victim/file")" = precious ] && [ "$(ls "$victim")" = file ] && [ "$(stat -c %a "$victim/file")" = 600 ]; }
mkdir "$victim"
echo precious >"$victim/file"
chmod 600 "$victim/file"

# A process that nobody has collected has ended too.
has_ended() { ! grep -qE '^State:[[:space:]]+[^ZX]' "/proc/$1/status" 2>/dev/null; }
refused() { ! "$@" >"$SCRATCH/refused.log" 2>&1; }

planted_in_a_cluster() {
    need_postgres
    local dir=$SCRATCH/planted base postmaster
    "$ROOT/scripts/cluster.sh" start "$dir" fsync=off >/dev/null
    base=$(cluster_base "$dir")
    postmaster=$(as_server head -n 1 "$base/data/postmaster.pid")
    expect "the server's user cannot write beside its own folder" refused as_server sh -c "echo '$victim' >'$dir/elsewhere'"
    expect "nor put another folder into its place" refused as_server mv "$base" "$dir/other"
    # What it can do: links in its own folder, by names that root might write to.
    as_server ln -s "$victim" "$base/readable-private"
    as_server ln -s "$victim" "$base/private"
    as_server ln -s "$victim/file" "$base/upgrade.log"
    as_server ln -sf "$victim/file" "$base/log"
    mkdir "$SCRATCH/private"
    echo theirs >"$SCRATCH/private/file"
    chmod 700 "$SCRATCH/private"
    local copy
    copy=$("$ROOT/scripts/cluster.sh" readable "$dir" "$SCRATCH/private")
    expect "what the server shall read is copied" as_server grep -q theirs "$copy/file"
    expect "and not through its own links" victim_is_whole
    "$ROOT/scripts/cluster.sh" remove "$dir"
    expect "a cluster is removed without following links" victim_is_whole
    expect "and its directory is gone" [ ! -e "$dir" ]
    expect "with its server" has_ended "$postmaster"
}

foreign_directories() {
    need_postgres
    local dir=$SCRATCH/foreign
    mkdir "$dir"
    echo "$victim" >"$dir/elsewhere"
    expect "a directory that names another than a cluster's is refused" refused "$ROOT/scripts/cluster.sh" remove "$dir"
    expect "and nothing is removed" victim_is_whole
    mkdir /tmp/leann-cluster.forged 2>/dev/null || true
    chown postgres /tmp/leann-cluster.forged
    echo /tmp/leann-cluster.forged >"$dir/elsewhere"
    expect "also one that another user has made" refused "$ROOT/scripts/cluster.sh" remove "$dir"
    expect "which stays" [ -d /tmp/leann-cluster.forged ]
    rm -r /tmp/leann-cluster.forged "$dir"
    as_server mkdir -m 777 "/tmp/leann-theirs.$$"
    expect "a directory of another user's is no place for a cluster" refused "$ROOT/scripts/cluster.sh" start "/tmp/leann-theirs.$$"
    as_server rmdir "/tmp/leann-theirs.$$"
}

# A folder of the tiny model with one thing changed, made by a function.
tiny_with() {
    rm -rf "$SCRATCH/model" "$SCRATCH/copy"
    cp -r "$ROOT/tests/models/tiny-hash" "$SCRATCH/model"
    (cd "$SCRATCH/model" && "$@")
}
convert() { "$VENV_PYTHON" "$ROOT/tools/make_model.py" --from-folder "$SCRATCH/model" "$@"; }
named() { printf '{"model_file": "%s"}' "$1" >leann.json; }
linked() { rm -rf "$1" && ln -s "$2" "$1"; }
outside_is_untouched() { [ "$(ls "$SCRATCH/outside")" = model.onnx ]; }

foreign_models() {
    mkdir "$SCRATCH/outside"
    cp "$ROOT/tests/models/tiny-hash/model.onnx" "$SCRATCH/outside/model.onnx"
    local how
    for how in "named ../outside/model.onnx" "named $SCRATCH/outside/model.onnx" "named onnx/../../outside/model.onnx" \
        "linked model.onnx $SCRATCH/outside/model.onnx" "linked onnx $SCRATCH/outside" "linked config.json $victim/file"; do
        # shellcheck disable=SC2086 # a function and its arguments
        tiny_with $how
        expect "refused: a model with ${how//$SCRATCH/}" refused convert
        expect "refused: a copy of it" refused convert --into "$SCRATCH/copy"
        expect "with nothing written outside" outside_is_untouched
        expect "and nothing of others in the copy" [ -z "$(grep -rl precious "$SCRATCH/copy" 2>/dev/null || true)" ]
    done
    # The cache of Hugging Face: a revision's files are links to blobs beside it.
    mkdir -p "$SCRATCH/cache/blobs" "$SCRATCH/cache/snapshots"
    tiny_with sh -c "mv model.onnx '$SCRATCH/cache/blobs/1234' && ln -s ../../blobs/1234 model.onnx"
    mv "$SCRATCH/model" "$SCRATCH/cache/snapshots/5678"
    "$VENV_PYTHON" "$ROOT/tools/make_model.py" --from-folder "$SCRATCH/cache/snapshots/5678" --into "$SCRATCH/copy" >"$SCRATCH/hub.log" 2>&1 || true
    expect "a revision in a cache is copied with what its links lead to" cmp -s "$SCRATCH/cache/blobs/1234" "$SCRATCH/copy/model.onnx"
    expect "as files of its own" [ ! -L "$SCRATCH/copy/model.onnx" ]
}

# The order in which an installation touches a model's files, told by programs of the same names before the real ones.
installation_order() {
    local models program name=all-MiniLM-L6-v2 log=$SCRATCH/order
    need_postgres
    models=$("$PG_CONFIG" --sharedir)/leann/models/$name/onnx
    mkdir "$SCRATCH/bin"
    for program in cp rm; do
        printf '#!/bin/sh\nfor last; do :; done\necho "%s $last" >>"%s"\nexec /bin/%s "$@"\n' "$program" "$log" "$program" >"$SCRATCH/bin/$program"
        chmod +x "$SCRATCH/bin/$program"
    done
    echo spoilt >>"$models/model.mapped.onnx"
    : >"$log"
    PATH=$SCRATCH/bin:$PATH "$ROOT/scripts/install.sh" --no-build >/dev/null 2>&1
    expect "an installation takes a model's receipt away first and puts it back last" \
        [ "$(sed "s|$models/||" "$log" | grep mapped)" = "$(printf '%s\n' "rm model.mapped.json" "cp model.mapped.onnx.new" "cp model.mapped.json.new")" ]
    expect "and leaves the model whole" cmp -s "$BUILD/models/$name/onnx/model.mapped.json" "$models/model.mapped.json"
}

if is_root; then
    planted_in_a_cluster
    foreign_directories
    installation_order
fi
foreign_models
exit $status
