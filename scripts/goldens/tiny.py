"""engine/testdata/tiny.json.gz: seven tiny models, their inputs and logits."""

import bert
import common
import numpy as np
import tensors
import tiny_models
import torch


def lengths(count, longest):
    """count lengths from 3 to longest, both included, the short ones denser."""
    steps = np.linspace(0, 1, count) ** 1.5
    return [round(3 + s * (longest - 3)) for s in steps]


def type_ids(kind, length):
    """Four kinds: a pair cut at a third, a pair with one token, all 0, all 1."""
    cut = {0: length // 3 + 1, 1: length - 1, 2: length, 3: 0}[kind % 4]
    return [0] * cut + [1] * (length - cut)


def make_pairs(config, seed, count):
    """Inputs that depend on the seed alone."""
    out = []
    for n, length in enumerate(lengths(count, config["max_position_embeddings"])):
        u = tensors.uniform(f"pair.{n}", seed, length)
        ids = np.floor((u + 1) / 2 * config["vocab_size"]).astype(int)
        # Half of the pairs with mixed kinds: an engine must not guess type ids.
        kind = 0 if n % 2 else n // 2
        out.append({"input_ids": ids.tolist(), "token_type_ids": type_ids(kind, length)})
    return out


def golden(name, config, seed, count=32, dtypes=(torch.float16, torch.bfloat16)):
    """One model's entry of count pairs; prints how trustworthy it is."""
    weights = tensors.tensors(config, seed)
    model = bert.build(config, weights)
    pairs = make_pairs(config, seed, count)
    want = bert.logits(model, pairs).astype(np.float32)
    halves = {str(dtype).removeprefix("torch."): bert.in_dtype(config, weights, dtype, pairs) for dtype in dtypes}
    print(f"{name}: deviation {want.std():.3f}, range {want.min():.3f} to {want.max():.3f}")
    for dtype, got in halves.items():
        worst = np.abs(got - want).max()
        print(f"  {dtype}: worst difference {worst:.2e}, {worst / want.std():.2e} of the deviation")
    print(f"  float32 against float64: {common.ratio(want, bert.precise(model, pairs)):.3g}")
    bert.controls(model, pairs, want)
    return {
        "name": name,
        "config": config,
        "seed": seed,
        "sha256": tensors.sha256(config, seed),
        "pairs": pairs,
        "logits": {k: common.numbers(v) for k, v in {"float32": want, **halves}.items()},
    }


def make(_):
    models = [golden(name, *spec) for name, spec in tiny_models.MODELS.items()]
    made_with = common.made_with("torch", "transformers", "numpy")
    common.write_json(common.ENGINE / "tiny.json.gz", {"made_with": made_with, "models": models})
