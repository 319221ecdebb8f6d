"""engine/testdata/encoders.json.gz and shapes.json.gz: every architecture and head, with random weights.

Each model is a directory: its settings files, and for every safetensors file the
names and shapes that transformers or sentence-transformers saves. weights/weightstest
makes the same directory.
"""

import hashlib
import pathlib
import tempfile

import common
import directories
import encoder_controls
import encoder_models
import numpy as np
import tensors
import tiny
import torch

HALVES = (torch.float16, torch.bfloat16)


def make_pairs(spec, seed):
    """Inputs that depend on the seed alone.

    No id is the pad token's, which RoBERTa gives no position, unless pads asks for some.
    A third of a pair's tokens is one of its own, so that means over long pairs differ.
    """
    config = spec["config"]
    pad = config["pad_token_id"]
    out = []
    for n, length in enumerate(spec.get("lengths") or tiny.lengths(spec.get("count", 16), spec["longest"])):
        u = tensors.uniform(f"pair.{n}", seed, length + 1)
        ids = np.floor((u + 1) / 2 * (config["vocab_size"] - 1)).astype(int)
        ids += ids >= pad
        ids[3::3] = ids[0]
        if spec.get("pads"):
            ids[5::7] = pad
        pair = {"input_ids": ids[1:].tolist()}
        if config.get("type_vocab_size", 1) > 1:
            pair["token_type_ids"] = tiny.type_ids(0 if n % 2 else n // 2, length)
        out.append(pair)
    return out


def sha256(folder, found):
    """The hash of all safetensors files, one behind the other."""
    total = hashlib.sha256()
    for name in found:
        total.update((folder / name).read_bytes())
    return total.hexdigest()


def golden(name, spec, dtypes):
    """One model's entry; prints how trustworthy it is, by controls only if that is quick."""
    seed = tensors.fnv1a(name) % 2**31
    pairs = make_pairs(spec, seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder, files, found = directories.make(pathlib.Path(scratch), spec, seed)
        model = directories.load(folder)
        want = directories.logits(model, pairs).astype(np.float32)
        print(f"{name}: deviation {want.std():.3f}, range {want.min():.3f} to {want.max():.3f}", flush=True)
        if spec["config"].get("hidden_size", 0) <= 384:
            encoder_controls.report(model, pairs, want)
        print(f"  float32 against float64: {common.ratio(want, directories.precise(model, pairs)):.3g}")
        halves = {}
        for dtype in dtypes:
            got = directories.logits(directories.load(folder, dtype), pairs).astype(np.float32)
            halves[str(dtype).removeprefix("torch.")] = got
            print(f"  {dtype}: worst difference {np.abs(got - want).max() / want.std():.2e} of the deviation")
        return {
            "name": name,
            "seed": seed,
            "files": files,
            "tensors": found,
            "sha256": sha256(folder, found),
            "pairs": pairs,
            "logits": {k: common.numbers(v) for k, v in {"float32": want, **halves}.items()},
        }


def write(name, models, dtypes):
    made_with = common.made_with("torch", "transformers", "sentence-transformers", "numpy")
    entries = [golden(title, spec, dtypes) for title, spec in models.items()]
    common.write_json(common.ENGINE / name, {"made_with": made_with, "models": entries})


def make(_):
    write("encoders.json.gz", encoder_models.TINY, HALVES)


def make_shapes(_):
    write("shapes.json.gz", encoder_models.SHAPES, ())
