"""Writes a BERT sentence encoder, given as safetensors, as an ONNX graph that multiplies numbers of 8 bits.

About twice as fast on a CPU as the graph of bert_onnx.py, a quarter of its size, and nearly as good. Made so
that a text's embedding depends on the text alone, and hardly on the CPU:

- Activations are quantized as the model runs, each token by its own largest number. What else is in the
  batch, and how far a row is padded, changes nothing, as it would if one scale were found for a whole run.
- Weights have 7 bits, those of a column (an output) one scale. Two products of 8 and 7 bits still fit into
  the 16 bits in which CPUs without VNNI instructions add them; with 8 bits they would be cut off there, and
  an embedding would depend on the CPU. Sums are of 32 bits, hence exact.
- Scales come from the weights alone, not from a sample of texts, so that everybody's file is the same.

The vectors of the words are kept in 8 bits too, each with a scale of its own. All else is single precision.
Operators of ONNX Runtime's own (com.microsoft) are spelled out here where it has one: its optimizer then
finds nothing to change, and the mapped form gives what this graph gives, bit for bit.

Inputs and output are those of bert_onnx.py.
"""

import numpy as np
from onnx import TensorProto, helper

import bert_onnx

OWN = "com.microsoft"
# What stands for 0 in the activations, which go from 0 to 255. GELU gives nothing below -0.17.
MIDDLE = 128
LOW = 16
WORD_STEPS = 127
# The most for which 2 products with 255 fit into 16 bits.
WEIGHT_STEPS = 64


def rounded(matrix, axis, steps):
    """Returns the matrix in whole steps from -steps to steps, and the size of a step along `axis`."""
    size = np.maximum(np.abs(matrix).max(axis, keepdims=True), np.float32(1e-30)) / np.float32(steps)
    return np.rint(matrix / size).astype(np.int8), size.astype(np.float32)


class Graph(bert_onnx.Graph):
    """Activations are [tokens of all rows, width], but where it says otherwise."""

    def words(self, prefix):
        steps, sizes = rounded(self.weights[prefix + ".weight"], 1, WORD_STEPS)
        steps = self.constant(prefix + ".steps", steps, np.int8)
        sizes = self.constant(prefix + ".sizes", sizes, np.float32)
        whole = self.op(
            "Cast",
            [self.op("Gather", [steps, "input_ids"], "words.steps")],
            "words.whole",
            to=TensorProto.FLOAT,
        )
        return self.op("Mul", [whole, self.op("Gather", [sizes, "input_ids"], "words.sizes")], "words")

    def shapes(self, hidden):
        """The shape of activations that are apart by rows, and the zero points of all tokens."""
        self.op("Concat", ["shape", self.constant("hidden", [hidden])], "shape.rows", axis=0)
        self.op("ReduceProd", ["shape"], "shape.tokens", keepdims=1)
        for zero_point in (MIDDLE, LOW):
            value = helper.make_tensor("value", TensorProto.UINT8, [1], [zero_point])
            self.op("ConstantOfShape", ["shape.tokens"], f"zero_points.{zero_point}", value=value)

    def quantized(self, x, zero_point=MIDDLE):
        """(steps, sizes, zero point): each token in steps of the smallest size at which its numbers fit."""
        sizes = [self.constant("tiny", 1e-30, np.float32)]  # not 0, by which nothing can be divided
        for which, steps in (("Max", 255 - zero_point), ("Min", -zero_point)):
            extreme = self.op(f"Reduce{which}", [x], f"{x}.{which}", axes=[1], keepdims=1)
            step = self.constant(f"step.{steps}", 1 / steps, np.float32)
            sizes.append(self.op("Mul", [extreme, step], f"{x}.{which}.size"))
        size = self.op("Max", sizes, f"{x}.sizes")
        flat = self.op("Reshape", [size, self.constant("one_axis", [-1])], f"{x}.sizes.flat")
        steps = self.op("QuantizeLinear", [x, flat, f"zero_points.{zero_point}"], f"{x}.steps", axis=0)
        return steps, size, zero_point

    def product(self, quantized, prefixes, name):
        """The linear layers `prefixes` side by side, without their biases."""
        steps, sizes, zero_point = quantized
        matrix, columns = rounded(
            np.concatenate([self.weights[one + ".weight"] for one in prefixes]).T, 0, WEIGHT_STEPS
        )
        inputs = [
            steps,
            self.constant(name + ".weight.steps", matrix, np.int8),
            self.constant("one", 1.0, np.float32),
            self.constant(name + ".weight.sizes", columns[0], np.float32),
            self.constant(f"zero_point.{zero_point}", zero_point, np.uint8),
        ]
        whole = self.op("MatMulIntegerToFloat", inputs, name + ".whole", domain=OWN)
        return self.op("Mul", [whole, sizes], name + ".product")

    def skip_layer_norm(self, x, skip, prefix, bias, epsilon):
        inputs = [
            x,
            skip,
            *(self.weight(one) for one in (prefix + ".weight", prefix + ".bias", bias + ".bias")),
        ]
        return self.op("SkipLayerNormalization", inputs, prefix + ".normalised", domain=OWN, epsilon=epsilon)


def attention(graph, x, prefix, config):
    parts = [f"{prefix}.self.{part}" for part in ("query", "key", "value")]
    quantized = graph.quantized(x)
    apart = []
    for part in parts:
        product = graph.product(quantized, [part], part)
        apart.append(graph.op("Reshape", [product, "shape.rows"], f"{part}.rows"))
    bias = np.concatenate([graph.weights[part + ".bias"] for part in parts])
    inputs = [*apart, graph.constant(f"{prefix}.self.bias", bias, np.float32), "mask"]
    heads = config["num_attention_heads"]
    mixed = graph.op("MultiHeadAttention", inputs, f"{prefix}.mixed", domain=OWN, num_heads=heads)
    flat = graph.op("Reshape", [mixed, graph.constant("flat", [-1, config["hidden_size"]])], f"{prefix}.flat")
    out = f"{prefix}.output.dense"
    product = graph.product(graph.quantized(flat), [out], out)
    return graph.skip_layer_norm(product, x, f"{prefix}.output.LayerNorm", out, config["layer_norm_eps"])


def feed_forward(graph, x, prefix, config):
    inner, out = f"{prefix}.intermediate.dense", f"{prefix}.output.dense"
    product = graph.product(graph.quantized(x), [inner], inner)
    gelu = graph.op("BiasGelu", [product, graph.weight(inner + ".bias")], f"{prefix}.gelu", domain=OWN)
    product = graph.product(graph.quantized(gelu, LOW), [out], out)
    return graph.skip_layer_norm(product, x, f"{prefix}.output.LayerNorm", out, config["layer_norm_eps"])


def build(config, weights, name):
    """The encoder of `config` (a Hugging Face BERT config) with `weights` as an onnx.ModelProto."""
    bert_onnx.check_config(config)
    graph = Graph(weights)
    x = bert_onnx.embeddings(graph, config)
    hidden = config["hidden_size"]
    x = graph.op("Reshape", [x, graph.constant("flat", [-1, hidden])], "embeddings.flat")
    graph.shapes(hidden)
    graph.op("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{layer}"
        x = attention(graph, x, f"{prefix}.attention", config)
        x = feed_forward(graph, x, prefix, config)
    graph.op("Reshape", [x, "shape.rows"], "rows")
    return bert_onnx.finished(graph, config, name, {OWN: 1})
