#!/usr/bin/env bash
# Makes the model folder MODEL in .build/models, or checks and converts one of the user's own:
# FOLDER=/path/to/folder.
. "$(dirname "$0")/common.sh"

FOLDER=${FOLDER:-}
# What tools/make_model.py can make by name.
KNOWN_MODELS="all-MiniLM-L6-v2 all-MiniLM-L6-v2-int8"

# All of them, for the tests.
if [ "${1:-}" = --for-tests ]; then
    for name in $KNOWN_MODELS; do
        QUIET=1 FOLDER='' MODEL=$name "$0"
    done
    exit
fi

explain() {
    cat <<TEXT

The same model in 8 bits, about twice as fast:
    make model MODEL=all-MiniLM-L6-v2-int8

Another model: any sentence-transformers folder that was exported to ONNX,
    optimum-cli export onnx --model NAME FOLDER      or the onnx/ folder of the model's repository
with at least
    onnx/model.onnx (or model.onnx), tokenizer.json, config.json
and, where the model has them, modules.json, 1_Pooling/config.json, sentence_bert_config.json and
config_sentence_transformers.json: pooling, normalisation, length and prompts are read from them.
    make model FOLDER=/path/to/NAME                  checks it and copies it, converted, to .build/models/NAME
    make install                                     puts it where the server looks
Then, in SQL:  SELECT * FROM leann.models;  CREATE INDEX ON docs USING leann (embedding_of(body, 'NAME'));
TEXT
}

[ -x "$VENV_PYTHON" ] || die "the Python tools are missing" "run 'make deps' first"
mkdir -p "$BUILD/models"

if [ -n "$FOLDER" ]; then
    [ -d "$FOLDER" ] || die "FOLDER=$FOLDER is no directory"
    name=$(basename "$(cd "$FOLDER" && pwd)")
    say "model: checking and converting $FOLDER as '$name'"
    # Beside its place first: a folder that turns out unusable never gets there.
    rm -rf "$BUILD/models/.$name.new"
    "$VENV_PYTHON" "$ROOT/tools/make_model.py" --from-folder "$FOLDER" --into "$BUILD/models/.$name.new"
    rm -rf "$BUILD/models/$name"
    mv "$BUILD/models/.$name.new" "$BUILD/models/$name"
elif [[ " $KNOWN_MODELS " == *" $MODEL "* ]]; then
    say "model: $MODEL in .build/models"
    "$VENV_PYTHON" "$ROOT/tools/make_model.py" "$BUILD/models" --model "$MODEL"
elif [ -d "$BUILD/models/$MODEL" ]; then
    say "model: .build/models/$MODEL is there"
else
    explain >&2
    die "no model '$MODEL'" \
        "only these can be made by name: $KNOWN_MODELS; for any other give its folder, as above"
fi
[ "${QUIET:-}" ] || explain
