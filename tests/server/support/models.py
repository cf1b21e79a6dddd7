"""Folders of models for tests that spoil them."""

import shutil

from support.clusters import MODELS

TINY = MODELS / "tiny-hash"
TINY_B = MODELS / "tiny-hash-b"


def put_model(folder, name, source=TINY):
    """Copies a model into a folder of models; the copy's path."""
    return shutil.copytree(source, folder / name)


def varint(number):
    """A number as protocol buffers write it."""
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
