"""Weights that any language can make again, bit for bit.

A golden of a random model would otherwise have to carry the model. Here every
element is a function of the tensor's name, a seed and the element's index:
FNV-1a of the name, xor the seed, gives the state of a splitmix64 generator,
whose top 24 bits become an exact float in [-1, 1). Scales are powers of two,
so that scaling rounds nothing. weights/weightstest is the twin in Go.
"""

import hashlib
import json
import math

import numpy as np

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def fnv1a(name):
    """FNV-1a, 64 bits, of name in UTF-8."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def uniform(name, seed, count):
    """The first count numbers of the generator of name and seed, in [-1, 1)."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name) ^ seed) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def is_norm(name):
    """Returns whether the tensor belongs to a LayerNorm, as every architecture names them."""
    return "norm" in name.rsplit(".", 1)[0].rsplit(".", 1)[-1].lower()


def scale(name, shape):
    """The largest magnitude (LayerNorm weights: distance from 1) of a tensor."""
    if is_norm(name):
        return 0.25
    if name.endswith(".bias"):
        return 0.0625
    if name.endswith("embeddings.weight"):
        return 1.0
    if name == "classifier.weight":
        return 0.25
    # A power of two near sqrt(3/inputs), which would keep the variance: the
    # largest below sqrt(6/inputs). No logarithm, so no doubt at 384 inputs.
    step = 1.0
    while step * step * shape[1] >= 6:
        step /= 2
    return step


def tensor(name, shape, seed):
    """The float32 tensor of that name, shape and seed."""
    u = uniform(name, seed, math.prod(shape)) * scale(name, shape)
    if is_norm(name) and name.endswith(".weight"):
        u = 1 + u
    return u.astype(np.float32).reshape(shape)


def layout(config):
    """Names and shapes of a BertForSequenceClassification, in canonical order.

    Names are Hugging Face's without the "bert." prefix of the trunk.
    """
    h, i = config["hidden_size"], config["intermediate_size"]
    labels = len(config["id2label"])

    def linear(name, outputs, inputs):
        return [(name + ".weight", (outputs, inputs)), (name + ".bias", (outputs,))]

    def norm(name):
        return [(name + ".weight", (h,)), (name + ".bias", (h,))]

    out = [
        ("embeddings.word_embeddings.weight", (config["vocab_size"], h)),
        ("embeddings.position_embeddings.weight", (config["max_position_embeddings"], h)),
        ("embeddings.token_type_embeddings.weight", (config["type_vocab_size"], h)),
        *norm("embeddings.LayerNorm"),
    ]
    for n in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{n}."
        for part in ("query", "key", "value"):
            out += linear(layer + "attention.self." + part, h, h)
        out += linear(layer + "attention.output.dense", h, h)
        out += norm(layer + "attention.output.LayerNorm")
        out += linear(layer + "intermediate.dense", i, h)
        out += linear(layer + "output.dense", h, i)
        out += norm(layer + "output.LayerNorm")
    return out + linear("pooler.dense", h, h) + linear("classifier", labels, h)


def tensors(config, seed):
    """All tensors of a model, in canonical order: {name: float32 array}."""
    return {name: tensor(name, shape, seed) for name, shape in layout(config)}


def safetensors_bytes(named):
    """A safetensors file of float32 arrays in the order given.

    The header is compact JSON, padded with spaces to a multiple of 8 bytes: the
    same bytes from every implementation.
    """
    header, offset = {}, 0
    for name, array in named.items():
        end = offset + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(array.astype("<f4").tobytes() for array in named.values())
    return len(text).to_bytes(8, "little") + text + body


def sha256(config, seed):
    """The hash of the model.safetensors of config and seed, in hexadecimal."""
    return hashlib.sha256(safetensors_bytes(tensors(config, seed))).hexdigest()
