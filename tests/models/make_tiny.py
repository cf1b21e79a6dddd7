#!/usr/bin/env python3
"""Makes the tiny models that tests run in milliseconds: tiny-hash and tiny-hash-b.

    tests/models/make_tiny.py [DEST]

They are real models in every respect but size: an ONNX file, a tokenizer, the settings of
sentence-transformers. Their meaning is a hash: every token has a random vector, longer tokens a longer one,
and a text has the mean of its tokens' vectors, each a little changed by its place. So texts that share words
are near, the same words in another order are a little apart, and any UTF-8 has tokens, because the tokenizer
falls back to pairs of letters and then to bytes.

tiny-hash has 64 numbers per vector, mean pooling and no prompts. tiny-hash-b has 32, other vectors, prompts
for query and passage, and the text's vector at its first token. Output does not depend on machine or time, so
the folders are committed and the tests need no Python.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAX_TOKENS = 128
SPECIAL = ["<pad>", "<s>", "</s>"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
# Words that tests like to write; each becomes one token.
WORDS = """
a about after again air all also an and animal any apple are art as ask at autumn away back bad bank be bear
beach because been before begin big bird black blue boat body book both bread brother bus but buy by cake call
can car cat change child city class clean clear close cloud cold colour come computer cook could country cow
cup dance dark data day deep desert did different dinner do doctor dog door down dream drink drive dry each
early earth east eat egg engine error even every eye face fall family far farm fast father feel few field find
fire first fish flight flower fly food foot for forest found friend from fruit full game garden get girl give
glass go gold good great green grow had hair half hand happy hard has have he head hear heart heat her here
high him his history home horse hot hour house how ice if in index into iron is island it its job just keep
key kind king kitchen know lake land language large last late law learn left letter life light like line lion
list little live long look love low machine make man many market may me mean meat medicine milk mind money
month moon more morning most mother mountain mouse move much music must my name near new next night no north
not note now number ocean of off office oil old on one only open or orange order other our out over page paint
paper part party people phone piece place plane plant play point power price question rain read red rice right
ring river road rock room root row run said salt same sand say school science sea search season second see
seed sell send she ship shoe shop short should show sign silver sing sister sky sleep slow small snow so soil
some song soon sound south space spring star start station stone stop story street strong student such summer
sun sweet swim table take tea teach team tell ten text than that the their them then there these they thing
think this three time to today together too town train travel tree two under up us use vaccine vector very
virus voice walk wall want war warm was watch water wave way we weather well were west what wheat wheel when
where which white who why wild will wind window winter wish with woman wood word work world would write year
yellow yes you young zebra
""".split()


def byte_characters():
    """The printable stand-ins for the 256 bytes that byte-level tokenizers use."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, next_free = {}, 256
    for byte in range(256):
        if byte in printable:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(next_free)
            next_free += 1
    return [table[byte] for byte in range(256)]


def pairs():
    """What words that are not in the list are split into."""
    return [(a, b) for kind in (LETTERS, DIGITS) for a in kind for b in kind]


def tokenizer_json(vocabulary, rules):
    special = [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, token in enumerate(SPECIAL)
    ]
    begin, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in SPECIAL[1:])
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "version": "1.0",
        # As in many published models, at lengths that are not the model's: to be ignored.
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": SPECIAL[0],
        },
        "added_tokens": special,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Whitespace"},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, text, end],
            "pair": [begin, text, end, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {
                token: {"id": token, "ids": [number], "tokens": [token]}
                for number, token in enumerate(SPECIAL)
                if number
            },
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # A word that is a token stays whole.
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [list(rule) for rule in rules],
        },
    }


def token_vectors(vocabulary, dim, seed):
    """float16 [tokens, dim]: random directions, longer for longer tokens, which say more."""
    random = np.random.Generator(np.random.PCG64(seed))
    vectors = random.standard_normal((len(vocabulary), dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.array([0.1 if token in SPECIAL else min(len(token), 6) / 4 for token in vocabulary])
    return (vectors * lengths[:, None]).astype(np.float16)


def place_factors(dim, seed):
    """float16 [places, dim]: what a token's vector is multiplied by at each place in the text."""
    random = np.random.Generator(np.random.PCG64(seed + 1))
    return (1 + 0.25 * random.standard_normal((MAX_TOKENS, dim))).astype(np.float16)


def graph(vocabulary, dim, seed, mean_at_first):
    """Returns last_hidden_state: each token's vector; with `mean_at_first`, plus the text's mean."""
    constants = {
        "tokens": token_vectors(vocabulary, dim, seed),
        "places": place_factors(dim, seed),
        "axis_0": np.array([0]),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
        "index_1": np.array([1]),
    }
    nodes = []

    def op(op_type, inputs, output, **attributes):
        nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    op("Gather", ["tokens", "input_ids"], "half")
    op("Cast", ["half"], "vectors", to=TensorProto.FLOAT)
    op("Shape", ["input_ids"], "shape")
    op("Gather", ["shape", "index_1"], "length")
    op("Slice", ["places", "axis_0", "length", "axis_0"], "places_used")
    op("Cast", ["places_used"], "factors", to=TensorProto.FLOAT)
    op("Mul", ["vectors", "factors"], "placed")
    op("Cast", ["attention_mask"], "mask_flat", to=TensorProto.FLOAT)
    op("Unsqueeze", ["mask_flat", "axis_2"], "mask")
    if mean_at_first:
        op("Mul", ["placed", "mask"], "kept")
        op("ReduceSum", ["kept", "axis_1"], "sum", keepdims=1)
        op("ReduceSum", ["mask", "axis_1"], "count", keepdims=1)
        op("Div", ["sum", "count"], "mean")
        constants["tenth"] = np.array([0.1], dtype=np.float32)
        op("Mul", ["kept", "tenth"], "own")
        op("Add", ["own", "mean"], "last_hidden_state")
    else:
        op("Mul", ["placed", "mask"], "last_hidden_state")
    shape = ["batch", "sequence"]
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, shape) for n in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, dim])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def write_model(folder, dim, seed, pooling, prompts):
    rules = pairs()
    listed = SPECIAL + byte_characters() + [a + b for a, b in rules] + WORDS
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(listed))}
    write_json(folder / "tokenizer.json", tokenizer_json(vocabulary, rules))
    model = graph(vocabulary, dim, seed, mean_at_first=pooling == "cls_token")
    onnx.save(model, folder / "model.onnx")
    kinds = ["Transformer", "Pooling", "Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, paths))
    ]
    write_json(folder / "modules.json", modules)
    flags = {f"pooling_mode_{mode}": mode == pooling for mode in ("cls_token", "mean_tokens", "max_tokens")}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": dim, **flags})
    write_json(folder / "config.json", {"model_type": "tiny", "hidden_size": dim, "pad_token_id": 0})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": None}
    )


def main():
    dest = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    write_model(dest / "tiny-hash", 64, 1, "mean_tokens", {})
    write_model(dest / "tiny-hash-b", 32, 2, "cls_token", {"query": "search query: ", "passage": "passage: "})


if __name__ == "__main__":
    main()
