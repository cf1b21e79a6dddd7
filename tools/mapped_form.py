"""Writes the mapped form of an ONNX model, which crates/embed maps instead of copying weights.

Beside NAME.onnx come NAME.mapped.onnx, the graph as ONNX Runtime optimizes it for the CPU; NAME.mapped.bin,
its weights together with the packed copies that the CPU's matrix kernels work on; and NAME.mapped.json, the
receipt that ties them to NAME.onnx: the hashes of all of them, without which none is used. Packed weights are
found by a hash of what the CPU at hand would pack, so files made on another kind of CPU are right too, but
save less memory.

The NAME.onnx stays the model; the three files can be removed, or written again, at any time.
"""

import json
import os
import pathlib
import tempfile

import blake3
import numpy as np
import onnx
import onnxruntime

RECEIPT_FORMAT = 2
# The largest difference, against the largest number in it, that the optimised model's output may have.
TOLERANCE = 1e-5
# config.json's model_type, where the fusions that onnxruntime.transformers knows for BERT apply.
BERT_LIKE = {"bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"}
DYNAMIC_QUANTISATION = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
PROVIDERS = ["CPUExecutionProvider"]


def write(source, config):
    """Writes the mapped form of the file `source`; `config` is the model's config.json, or {}.

    Raises RuntimeError if no optimised graph gives what the source gives; then nothing is left behind.
    """
    source = pathlib.Path(source)
    graph = onnx.load(source, load_external_data=False)
    with tempfile.TemporaryDirectory(dir=source.parent) as scratch:
        for candidate, how in candidates(source, graph, config, pathlib.Path(scratch)):
            save_optimised(candidate, pathlib.Path(scratch), source.stem)
            difference = largest_difference(source, pathlib.Path(scratch) / f"{source.stem}.mapped.onnx")
            print(f"  {how}: differs by {difference:.1e}")
            if difference <= TOLERANCE:
                install(source, graph, pathlib.Path(scratch))
                return
    raise RuntimeError(f"{source}: the optimised graph differs by more than {TOLERANCE}")


def candidates(source, graph, config, scratch):
    """Graphs to optimise, best first."""
    # Where operators of ONNX Runtime's own are used already, somebody has fused what there was.
    plain = all(node.domain in ("", "ai.onnx") for node in graph.graph.node)
    if plain and config.get("model_type") in BERT_LIKE:
        try:
            yield fused(source, config, scratch), "attention fused"
        except Exception as error:  # On any failure fall back to the unfused graph, which is equally correct.
            print(f"  attention could not be fused: {error}")
    yield source, "as it is"


def fused(source, config, scratch):
    # Imported late: it needs sympy, and only this needs it.
    from onnxruntime.transformers import optimizer

    result = optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=config.get("num_attention_heads", 0),
        hidden_size=config.get("hidden_size", 0),
        opt_level=0,
    )
    path = scratch / "fused.onnx"
    large = weight_bytes(source) > 1 << 30
    result.save_model_to_file(str(path), use_external_data_format=large)
    return path


def save_optimised(candidate, scratch, stem):
    options = quiet_options()
    # Not beyond: the next level lays data out for one kind of CPU.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(scratch / f"{stem}.mapped.onnx")
    entries = {
        "session.optimized_model_external_initializers_file_name": f"{stem}.mapped.bin",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        "session.save_external_prepacked_constant_initializers": "1",
    }
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(str(candidate), options, providers=PROVIDERS)


def quiet_options():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def largest_difference(source, mapped):
    """Over a few batches of random tokens, some rows shorter than others."""
    plain = quiet_options()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(str(source), plain, providers=PROVIDERS)
    optimised = onnxruntime.InferenceSession(str(mapped), plain, providers=PROVIDERS)
    random = np.random.default_rng(20240229)
    worst = 0.0
    for rows, length in [(1, 1), (1, 7), (3, 33), (2, 100)]:
        lengths = random.integers(1, length + 1, rows)
        lengths[0] = length
        mask = np.arange(length)[None, :] < lengths[:, None]
        # Numbers that every vocabulary has.
        tokens = np.where(mask, random.integers(3, 200, (rows, length)), 0)
        given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        inputs = {i.name: given[i.name].astype(kind(i)) for i in reference.get_inputs()}
        for expected, got in zip(reference.run(None, inputs), optimised.run(None, inputs)):
            if expected.ndim == 3:
                expected, got = expected[mask], got[mask]
            worst = max(worst, float(np.abs(got - expected).max() / np.abs(expected).max()))
    return worst


def kind(value):
    return np.int32 if value.type == "tensor(int32)" else np.int64


def install(source, graph, scratch):
    """Moves the files into place. The receipt goes first and comes last: it never vouches for a mixture."""
    names = {part: f"{source.stem}.mapped.{part}" for part in ("bin", "onnx", "json")}
    if not (scratch / names["bin"]).exists():
        raise RuntimeError(f"{source}: it has no weights large enough to be mapped")
    dynamic = any(node.op_type in DYNAMIC_QUANTISATION for node in graph.graph.node)
    receipt = {
        "format": RECEIPT_FORMAT,
        "source": [entry(path) for path in source_files(source, graph)],
        "graph": entry(scratch / names["onnx"]),
        "data": entry(scratch / names["bin"]),
        "one_row_per_run": dynamic,
        "written_by": f"onnxruntime {onnxruntime.__version__}",
    }
    (scratch / names["json"]).write_text(json.dumps(receipt, indent=2) + "\n")
    (source.parent / names["json"]).unlink(missing_ok=True)
    for part in ("bin", "onnx", "json"):
        os.chmod(scratch / names[part], 0o644)
        os.replace(scratch / names[part], source.parent / names[part])


def source_files(source, graph):
    """The ONNX file, then the files it keeps weights in, by name: the order of the model's fingerprint."""
    external = {
        entry.value
        for tensor in onnx.external_data_helper._get_all_tensors(graph)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [source, *(source.with_name(name) for name in sorted(external))]


def weight_bytes(source):
    graph = onnx.load(source, load_external_data=False)
    return sum(path.stat().st_size for path in source_files(pathlib.Path(source), graph))


def entry(path):
    digest = blake3.blake3()
    digest.update_mmap(path)
    return {"file": path.name, "bytes": path.stat().st_size, "blake3": digest.hexdigest()}


def is_current(source):
    """Whether the mapped form beside `source` is complete, undamaged and made from it."""
    source = pathlib.Path(source)
    try:
        receipt = json.loads((source.parent / f"{source.stem}.mapped.json").read_text())
        derived = [source.with_suffix(".mapped.onnx"), source.with_suffix(".mapped.bin")]
        graph = onnx.load(source, load_external_data=False)
        return (
            receipt["format"] == RECEIPT_FORMAT
            and [receipt["graph"], receipt["data"]] == [entry(path) for path in derived]
            and receipt["source"] == [entry(path) for path in source_files(source, graph)]
        )
    except (OSError, ValueError, KeyError):
        return False
