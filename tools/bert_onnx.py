"""Writes a BERT sentence encoder, given as safetensors, as a plain ONNX graph.

Only standard ONNX operators are used, so that any runtime can read the file; ONNX Runtime fuses them itself
(attention, GELU, skip-layer-norm) when it optimizes the graph, see make_model.py.

Inputs  input_ids, attention_mask, token_type_ids: int64 [batch, sequence]
Output  last_hidden_state: float32 [batch, sequence, hidden]
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


class Graph:
    """Nodes and weights of a graph under construction; every method returns the name of a value."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.initializers = {}

    def constant(self, name, value, dtype=np.int64):
        if name not in self.initializers:
            array = np.array(value, dtype=dtype, order="C")
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def weight(self, name):
        return self.constant(name, self.weights[name], np.float32)

    def op(self, op_type, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def words(self, prefix):
        return self.op("Gather", [self.weight(prefix + ".weight"), "input_ids"], "words")

    def linear(self, x, prefix):
        matrix = self.constant(prefix + ".weight.T", self.weights[prefix + ".weight"].T, np.float32)
        product = self.op("MatMul", [x, matrix], prefix + ".product")
        return self.op("Add", [product, self.weight(prefix + ".bias")], prefix + ".sum")

    def layer_norm(self, x, prefix, epsilon):
        inputs = [x, self.weight(prefix + ".weight"), self.weight(prefix + ".bias")]
        return self.op("LayerNormalization", inputs, prefix + ".normalised", axis=-1, epsilon=epsilon)


def mask_bias(graph):
    """0 for tokens and a large negative number for padding, broadcast over heads and positions."""
    # Two steps where one would do: the pattern by which ONNX Runtime knows an attention mask.
    wide = graph.op("Unsqueeze", ["attention_mask", graph.constant("axis_1", [1])], "mask.heads")
    wide = graph.op("Unsqueeze", [wide, graph.constant("axis_2", [2])], "mask.wide")
    wide = graph.op("Cast", [wide], "mask.float", to=TensorProto.FLOAT)
    padding = graph.op("Sub", [graph.constant("one", 1.0, np.float32), wide], "mask.padding")
    return graph.op("Mul", [padding, graph.constant("minus_ten_thousand", -10000.0, np.float32)], "mask.bias")


def embeddings(graph, config):
    words = graph.words("embeddings.word_embeddings")
    types = graph.op(
        "Gather", [graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids"], "types"
    )
    shape = graph.op("Shape", ["input_ids"], "shape")
    length = graph.op("Gather", [shape, graph.constant("index_1", [1])], "length")
    every = graph.constant("position_ids", np.arange(config["max_position_embeddings"])[None])
    used = graph.op(
        "Slice", [every, graph.constant("zero", [0]), length, graph.constant("axis_1", [1])], "used"
    )
    places = graph.op("Gather", [graph.weight("embeddings.position_embeddings.weight"), used], "places")
    x = graph.op("Add", [graph.op("Add", [words, places], "words_places"), types], "embeddings.sum")
    return graph.layer_norm(x, "embeddings.LayerNorm", config["layer_norm_eps"])


def attention(graph, x, bias, prefix, config):
    heads = config["num_attention_heads"]
    width = config["hidden_size"] // heads
    split = graph.constant("split_heads", [0, 0, heads, width])

    def projected(part, order):
        flat = graph.linear(x, f"{prefix}.self.{part}")
        apart = graph.op("Reshape", [flat, split], f"{prefix}.{part}.apart")
        return graph.op("Transpose", [apart], f"{prefix}.{part}.heads", perm=order)

    query = projected("query", [0, 2, 1, 3])
    key = projected("key", [0, 2, 3, 1])
    value = projected("value", [0, 2, 1, 3])
    scores = graph.op("MatMul", [query, key], f"{prefix}.scores")
    scores = graph.op(
        "Div", [scores, graph.constant("root_width", width**0.5, np.float32)], f"{prefix}.scaled"
    )
    scores = graph.op("Add", [scores, bias], f"{prefix}.masked")
    shares = graph.op("Softmax", [scores], f"{prefix}.shares", axis=-1)
    mixed = graph.op("MatMul", [shares, value], f"{prefix}.mixed")
    mixed = graph.op("Transpose", [mixed], f"{prefix}.merged", perm=[0, 2, 1, 3])
    mixed = graph.op(
        "Reshape", [mixed, graph.constant("merge_heads", [0, 0, config["hidden_size"]])], f"{prefix}.flat"
    )
    out = graph.linear(mixed, f"{prefix}.output.dense")
    out = graph.op("Add", [out, x], f"{prefix}.skip")
    return graph.layer_norm(out, f"{prefix}.output.LayerNorm", config["layer_norm_eps"])


def feed_forward(graph, x, prefix, config):
    inner = graph.linear(x, f"{prefix}.intermediate.dense")
    # Exact GELU, x/2 * (1 + erf(x / sqrt 2)), in the shape that ONNX Runtime's fusion looks for.
    root = graph.op("Div", [inner, graph.constant("root_two", 2**0.5, np.float32)], f"{prefix}.gelu.root")
    erf = graph.op("Erf", [root], f"{prefix}.gelu.erf")
    one_more = graph.op("Add", [erf, graph.constant("one", 1.0, np.float32)], f"{prefix}.gelu.one_more")
    product = graph.op("Mul", [inner, one_more], f"{prefix}.gelu.product")
    gelu = graph.op("Mul", [product, graph.constant("half", 0.5, np.float32)], f"{prefix}.gelu")
    out = graph.linear(gelu, f"{prefix}.output.dense")
    out = graph.op("Add", [out, x], f"{prefix}.skip")
    return graph.layer_norm(out, f"{prefix}.output.LayerNorm", config["layer_norm_eps"])


def check_config(config):
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise ValueError("only BERT with exact GELU is known here")


def finished(graph, config, name, domains):
    """Returns the graph as a model that gives its last node; `domains` has those of other operators."""
    graph.nodes[-1].output[0] = "last_hidden_state"
    batch = ["batch", "sequence"]
    inputs = [
        helper.make_tensor_value_info(one, TensorProto.INT64, batch)
        for one in ("input_ids", "attention_mask", "token_type_ids")
    ]
    hidden = [*batch, config["hidden_size"]]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, hidden)]
    body = helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.initializers.values()))
    opsets = [helper.make_opsetid(domain, version) for domain, version in {"": OPSET, **domains}.items()]
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def build(config, weights, name):
    """The encoder of `config` (a Hugging Face BERT config) with `weights` as an onnx.ModelProto."""
    check_config(config)
    graph = Graph(weights)
    bias = mask_bias(graph)
    x = embeddings(graph, config)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        x = attention(graph, x, bias, f"{prefix}.attention", config)
        x = feed_forward(graph, x, prefix, config)
    return finished(graph, config, name, {})
