"""weights/testdata/quantized.json.gz: tiny models whose weights MLX has quantised.

Each model has its file of weights as mlx-community's converters write it: every matrix
is quantised, LayerNorm and biases are in half precision. The golden also has the hash
of each matrix that mx.dequantize makes of it in float32, the error of the quantisation,
and logits that NumPy computes with these matrices in float64.
"""

import base64
import hashlib
import math
import pathlib
import tempfile

import common
import mlx.core as mx
import numpy as np
import tensors

CONFIG = {
    "vocab_size": 128,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "id2label": {"0": "LABEL_0"},
}
MODELS = [(8, 64, mx.bfloat16), (8, 32, mx.float16), (4, 64, mx.float16), (4, 32, mx.bfloat16)]
SEED = 19


def quantized(weights, bits, group, dtype):
    """The tensors of mlx-community's layout."""
    out = {}
    for name, value in weights.items():
        value = mx.array(value).astype(dtype)
        if value.ndim < 2:
            out[name] = value
            continue
        module = name.removesuffix("weight")
        out[name], out[module + "scales"], out[module + "biases"] = mx.quantize(value, group_size=group, bits=bits)
    return out


def dequantized(packed, bits, group, swapped=False):
    """The matrices that a reader must make of them, in float32."""
    out = {}
    for name, value in packed.items():
        module = name.removesuffix("weight")
        if name.endswith((".scales", ".biases")):
            continue
        if module + "scales" in packed:
            scales, biases = (packed[module + part].astype(mx.float32) for part in ("scales", "biases"))
            if swapped:
                scales, biases = biases, scales
            value = mx.dequantize(value, scales, biases, group_size=group, bits=bits)
        out[name] = np.array(value.astype(mx.float32))
    return out


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def logits(w, pairs):
    """BERT's classifier in float64."""
    w = {name: value.astype(np.float64) for name, value in w.items()}
    heads, width = CONFIG["num_attention_heads"], CONFIG["hidden_size"] // CONFIG["num_attention_heads"]

    def dense(x, name):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + CONFIG["layer_norm_eps"])
        return x * w[name + ".weight"] + w[name + ".bias"]

    def split(x):
        return x.reshape(len(x), heads, width).transpose(1, 0, 2)

    out = []
    for pair in pairs:
        ids = np.array(pair["input_ids"])
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = norm(x + w["embeddings.token_type_embeddings.weight"][pair["token_type_ids"]], "embeddings.LayerNorm")
        for i in range(CONFIG["num_hidden_layers"]):
            at = f"encoder.layer.{i}."
            q, k, v = (split(dense(x, at + "attention.self." + part)) for part in ("query", "key", "value"))
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(width)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            attended = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(x.shape)
            x = norm(dense(attended, at + "attention.output.dense") + x, at + "attention.output.LayerNorm")
            inner = gelu(dense(x, at + "intermediate.dense"))
            x = norm(dense(inner, at + "output.dense") + x, at + "output.LayerNorm")
        out.append(dense(np.tanh(dense(x[0], "pooler.dense")), "classifier")[0])
    return np.array(out)


def make_pairs(count=12):
    """Inputs of 3 to 32 tokens."""
    pairs = []
    for n in range(count):
        length = 3 + n * (CONFIG["max_position_embeddings"] - 3) // (count - 1)
        u = tensors.uniform(f"pair.{n}", SEED, length)
        ids = np.floor((u + 1) / 2 * CONFIG["vocab_size"]).astype(int)
        pairs.append({"input_ids": ids.tolist(), "token_type_ids": [int(i > length // 2) for i in range(length)]})
    return pairs


def file_of(packed):
    """The bytes of the safetensors file that MLX writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.safetensors"
        mx.save_safetensors(str(path), packed, metadata={"format": "mlx"})
        return path.read_bytes()


def golden(bits, group, dtype):
    original = tensors.tensors(CONFIG, SEED)
    packed = quantized(original, bits, group, dtype)
    matrices, pairs = dequantized(packed, bits, group), make_pairs()
    want = logits(matrices, pairs)
    name = str(dtype).removeprefix("mlx.core.")
    wrong = logits(dequantized(packed, bits, group, swapped=True), pairs)
    exact = logits({k: np.asarray(v, dtype=np.float32) for k, v in original.items()}, pairs)
    print(
        f"{bits} bits, groups of {group}, {name}: deviation {want.std():.3f}; "
        f"original {common.ratio(exact.astype(np.float32), want.astype(np.float32)):.3g}, "
        f"swapped scales and biases {common.ratio(wrong.astype(np.float32), want.astype(np.float32)):.3g}"
    )
    small = {k: v for k, v in matrices.items() if v.ndim == 2}
    return {
        "bits": bits,
        "group_size": group,
        "scales": name,
        "config": CONFIG,
        "seed": SEED,
        "safetensors": base64.b64encode(file_of(packed)).decode(),
        "sha256": {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in small.items()},
        "error": {k: float(np.square(v - original[k], dtype=np.float64).mean()) for k, v in small.items()},
        "pairs": pairs,
        "logits": common.numbers(want),
    }


def make(_):
    models = [golden(*spec) for spec in MODELS]
    common.write_json(common.WEIGHTS / "quantized.json.gz", {"made_with": common.made_with("mlx", "numpy"), "models": models})
