#!/usr/bin/env python3
"""Derives the reference embeddings of all-MiniLM-L6-v2 from its weights, with nothing but numpy.

    tools/reference/derive.py MODEL_FOLDER > tools/reference/all-MiniLM-L6-v2.json

MODEL_FOLDER holds the published model.safetensors, vocab.txt and config.json. Tokenizer, encoder, pooling and
scaling are written out here, after the papers and the reference implementation of BERT, in double precision,
so that the figures owe nothing to ONNX, ONNX Runtime, the tokenizers library or this project's own code, all
of which are tested against them.
"""

import json
import math
import pathlib
import sys
import unicodedata

import numpy as np

MAX_TOKENS = 256
TEXTS = [
    "How do vaccines work?",
    "A vaccine trains the immune system to recognise a pathogen before it is met.",
    "The cat sat on the mat.",
    "naïve café, Ångström & Co. — 3.14159 (approximately)",
    "東京は日本の首都です。",
    "🙂 emoji and\ttabs\nand new lines",
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "",
    " ".join(f"word{i} of a text that is longer than the model takes," for i in range(60)),
]


def read_safetensors(path):
    """The format: 8 bytes of header length, a JSON header, then the raw little-endian tensors."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, body = json.loads(raw[8 : 8 + length]), memoryview(raw)[8 + length :]
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            numbers = np.frombuffer(body[begin:end], "<f4").reshape(entry["shape"])
            tensors[name] = numbers.astype(np.float64)
    return tensors


def is_cjk(char):
    code = ord(char)
    ranges = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F)]
    ranges += [(0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F)]
    return any(low <= code <= high for low, high in ranges)


def is_punctuation(char):
    return (char.isascii() and not char.isalnum() and not char.isspace()) or unicodedata.category(char)[
        0
    ] == "P"


def words(text):
    """BERT's basic tokenizer, uncased: cleaned, lower case, no accents, split at blanks and punctuation."""
    spaced = []
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            spaced.append(" ")
        elif char in "\0\ufffd" or unicodedata.category(char)[0] == "C":
            continue
        else:
            spaced.append(f" {char} " if is_cjk(char) else char)
    plain = unicodedata.normalize("NFD", "".join(spaced).lower())
    plain = "".join(char for char in plain if unicodedata.category(char) != "Mn")
    return "".join(f" {char} " if is_punctuation(char) else char for char in plain).split()


def pieces(word, vocabulary):
    """WordPiece: the longest known beginning, again and again; a word with an unknown part is unknown."""
    found, start = [], 0
    if len(word) > 100:
        return ["[UNK]"]
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        found.append(piece)
        start = end
    return found


def tokens(text, vocabulary):
    body = [piece for word in words(text) for piece in pieces(word, vocabulary)]
    return [vocabulary[piece] for piece in ["[CLS]", *body[: MAX_TOKENS - 2], "[SEP]"]]


def layer_norm(x, weights, name, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return scaled * weights[name + ".weight"] + weights[name + ".bias"]


def linear(x, weights, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def attention(x, weights, name, heads):
    width = x.shape[1] // heads
    query, key, value = (linear(x, weights, f"{name}.self.{part}") for part in ("query", "key", "value"))
    mixed = np.empty_like(x)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed[:, part] = scores / scores.sum(-1, keepdims=True) @ value[:, part]
    return linear(mixed, weights, name + ".output.dense")


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def encode(numbers, weights, config):
    """One text through BERT (Devlin et al. 2019), then mean pooling and scaling to unit length."""
    epsilon = config["layer_norm_eps"]
    x = weights["embeddings.word_embeddings.weight"][numbers]
    x = x + weights["embeddings.position_embeddings.weight"][: len(numbers)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, weights, "embeddings.LayerNorm", epsilon)
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        attended = attention(x, weights, name + ".attention", config["num_attention_heads"])
        x = layer_norm(x + attended, weights, name + ".attention.output.LayerNorm", epsilon)
        inner = gelu(linear(x, weights, name + ".intermediate.dense"))
        x = layer_norm(
            x + linear(inner, weights, name + ".output.dense"), weights, name + ".output.LayerNorm", epsilon
        )
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def main():
    folder = pathlib.Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text())
    weights = read_safetensors(folder / "model.safetensors")
    listed = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    vocabulary = {word: number for number, word in enumerate(listed)}
    entries = []
    for text in TEXTS:
        numbers = tokens(text, vocabulary)
        embedding = [float(f"{x:.8f}") for x in encode(numbers, weights, config)]
        entries.append({"text": text, "tokens": numbers, "embedding": embedding})
    print("[")
    print(",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries))
    print("]")


if __name__ == "__main__":
    main()
