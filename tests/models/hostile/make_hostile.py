#!/usr/bin/env python3
"""Makes models that must be refused, each for its own reason.

    tests/models/hostile/make_hostile.py DEST

Each is a copy of tests/models/tiny-hash but for its ONNX file, in a folder of its name:

    nan          vectors of undefined numbers, for every text
    nan-later    the same, but only for texts of more than 8 tokens: loading it succeeds
    zero         vectors of zeros
    other-dim    vectors as long as the text has tokens
    wrong-input  wants an input that no text encoder has
    slow         a run takes some seconds, to be stopped
    truncated    the first half of the file
    empty        a file of no bytes
    garbage      not an ONNX file at all
    outside      tokenizer.json is a link that leads out of the folder
"""

import os
import pathlib
import shutil
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TINY = pathlib.Path(__file__).parent.parent / "tiny-hash"
DIM = 64


def model(nodes, constants, extra_inputs=(), dim=DIM):
    shape = ["batch", "sequence"]
    names = ["input_ids", "attention_mask", *extra_inputs]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in names]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, dim])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "hostile", inputs, outputs, initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def constant_vectors(value):
    """Every token's vector consists of `value`."""
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["mask"]),
        helper.make_node("Mul", ["mask", "row"], ["last_hidden_state"]),
    ]
    return model(nodes, {"axis": np.array([2]), "row": np.full(DIM, value, dtype=np.float32)})


def nan_later():
    """The k-th token's vector consists of ones for k < 8, then of undefined numbers."""
    places = np.ones((256, DIM), dtype=np.float32)
    places[8:] = np.nan
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["length"]),
        helper.make_node("Slice", ["places", "zero", "length", "zero"], ["used"]),
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["mask"]),
        helper.make_node("Mul", ["mask", "used"], ["last_hidden_state"]),
    ]
    return model(nodes, {"axis": np.array([2]), "one": np.array([1]), "zero": np.array([0]), "places": places})


def other_dim():
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis_1"], ["row"]),
        helper.make_node("Unsqueeze", ["flat", "axis_2"], ["column"]),
        helper.make_node("Mul", ["row", "column"], ["last_hidden_state"]),
    ]
    return model(nodes, {"axis_1": np.array([1]), "axis_2": np.array([2])}, dim="sequence")


def wrong_input():
    nodes = [
        helper.make_node("Add", ["input_ids", "pixel_values"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["column"]),
        helper.make_node("Expand", ["column", "shape"], ["last_hidden_state"]),
    ]
    return model(nodes, {"axis": np.array([2]), "shape": np.array([1, 1, DIM])}, ["pixel_values"])


def slow():
    """Multiplies by a large matrix a thousand times over, in as many steps, between which a run can be stopped."""
    width = 1024
    random = np.random.Generator(np.random.PCG64(3))
    matrix = np.linalg.qr(random.standard_normal((width, width)))[0].astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "row"], ["x0"]),
    ]
    steps = 1000
    nodes += [helper.make_node("MatMul", [f"x{i}", "matrix"], [f"x{i + 1}"]) for i in range(steps)]
    nodes.append(helper.make_node("Slice", [f"x{steps}", "zero", "dim", "axis"], ["last_hidden_state"]))
    row = random.standard_normal(width).astype(np.float32)
    constants = {"axis": np.array([2]), "zero": np.array([0]), "dim": np.array([DIM]), "matrix": matrix, "row": row}
    return model(nodes, constants)


def write(dest, name, content):
    """A copy of the tiny model with other bytes for its ONNX file."""
    folder = dest / name
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(TINY, folder)
    (folder / "model.onnx").write_bytes(content)
    return folder


def main():
    dest = pathlib.Path(sys.argv[1])
    dest.mkdir(parents=True, exist_ok=True)
    models = {
        "nan": constant_vectors(np.nan),
        "nan-later": nan_later(),
        "zero": constant_vectors(0),
        "other-dim": other_dim(),
        "wrong-input": wrong_input(),
        "slow": slow(),
    }
    for name, made in models.items():
        onnx.checker.check_model(made)
        write(dest, name, made.SerializeToString())
    whole = (TINY / "model.onnx").read_bytes()
    write(dest, "truncated", whole[: len(whole) // 2])
    write(dest, "empty", b"")
    write(dest, "garbage", b"this is not an ONNX file\n" * 100)
    outside = write(dest, "outside", whole)
    (outside / "tokenizer.json").unlink()
    os.symlink(TINY.resolve() / "tokenizer.json", outside / "tokenizer.json")


if __name__ == "__main__":
    main()
