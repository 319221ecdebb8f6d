"""Goldens of real weights: the builtin model, and its trunk with a random head."""

import hashlib
import json

import bert
import common
import numpy as np
import peft
import tensors
import tokenizers
import transformers

PATH = common.ENGINE / "builtin.jsonl.gz"
MAXIMUM = 512
HEAD_SEED = 20260102
HEAD_PAIRS = 64


def encoder(base, labels=1):
    """The encoder of base under a classifier that is not trained."""
    return transformers.BertForSequenceClassification.from_pretrained(
        base, num_labels=labels, attn_implementation="eager", dtype="float32"
    ).eval()


def merged(base, adapter=common.ADAPTER):
    """The builtin model: PEFT's own merge of the adapter into base."""
    return peft.PeftModel.from_pretrained(encoder(base), adapter).merge_and_unload().eval()


def read_pairs(source):
    """Texts of a JSONL file, or of the golden itself."""
    if source:
        with open(source, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
    else:
        rows = common.read_lines(PATH)[1:]
    return [(row["query"], row["document"]) for row in rows]


def encode(base, texts):
    """Inputs of the texts, truncated to 512 tokens."""
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAXIMUM, strategy="longest_first")
    return [{"input_ids": e.ids, "token_type_ids": e.type_ids} for e in tokenizer.encode_batch(texts)]


def made_with(base):
    return {
        "made_with": common.made_with("torch", "transformers", "tokenizers", "peft", "numpy"),
        "base_sha256": hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest(),
    }


def report(name, model, pairs, want, **more):
    print(f"{name}: {len(want)} logits, deviation {want.std():.3f}, range {want.min():.3f} to {want.max():.3f}")
    print(f"  float32 against float64: {common.ratio(want, bert.precise(model, pairs)):.3g}")
    bert.controls(model, pairs, want, **more)


def make(args):
    texts = read_pairs(args.texts)
    pairs = encode(args.base, texts)
    swapped = encode(args.base, [(d, q) for q, d in texts])
    model = merged(args.base)
    want = bert.logits(model, pairs).astype(np.float32)
    lines = [{"query": q, "document": d, "logit": logit} for (q, d), logit in zip(texts, common.numbers(want), strict=True)]
    full = sum(len(p["input_ids"]) == MAXIMUM for p in pairs)
    report(f"builtin ({full} of {MAXIMUM} tokens)", model, pairs, want, **{"pair swapped": swapped})
    common.write_lines(PATH, [{**made_with(args.base), "max_length": MAXIMUM, "cases": len(lines)}, *lines])


def head(model):
    """Gives model the pooler and classifier of HEAD_SEED."""
    state = {
        name: tensors.tensor(name, tuple(parameter.shape), HEAD_SEED)
        for name, parameter in ((n.removeprefix("bert."), p) for n, p in model.named_parameters())
        if name.startswith(("pooler.", "classifier."))
    }
    bert.load(model, state, partial=True)


def make_head(args):
    """engine/testdata/randomhead.json.gz, for pairs spread evenly over the builtin golden."""
    texts = read_pairs(None)
    indexes = [n * len(texts) // HEAD_PAIRS for n in range(HEAD_PAIRS)]
    pairs = encode(args.base, [texts[n] for n in indexes])
    model = encoder(args.base)
    head(model)
    want = bert.logits(model, pairs).astype(np.float32)
    report("random head", model, pairs, want)
    common.write_json(
        common.ENGINE / "randomhead.json.gz",
        {**made_with(args.base), "max_length": MAXIMUM, "seed": HEAD_SEED, "indexes": indexes, "logits": common.numbers(want)},
    )
