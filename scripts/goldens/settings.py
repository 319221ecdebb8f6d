"""engine/testdata/settings.json.gz: what CrossEncoder makes of a model's settings files.

A tiny model is written to disk once for each case, with the case's changes of
its files. CrossEncoder, and with it AutoTokenizer, reads that directory and
gives ids, type ids, logits and scores; or it fails, which is recorded too.
"""

import contextlib
import io
import json
import pathlib
import tempfile

import common
import sentence_transformers
import setting_cases
import tensors
import tokenizers
import torch
import transformers

PATH = common.ENGINE / "settings.json.gz"


def merge(base, changes):
    """base with changes, objects member by member; None (null) is a value, REMOVED is not."""
    out = dict(base)
    for key, value in changes.items():
        if value is setting_cases.REMOVED:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict) and not value.get("whole"):
            out[key] = merge(out[key], value)
        else:
            out[key] = {k: v for k, v in value.items() if k != "whole"} if isinstance(value, dict) else value
    return out


def files_of(changes):
    """Returns the JSON files of a case: the base model's with changes, and new ones."""
    files = dict(setting_cases.BASE)
    for name, change in changes.items():
        if change is setting_cases.REMOVED:
            files.pop(name, None)
        elif isinstance(change, list):
            files[name] = change
        else:
            files[name] = merge(files.get(name, {}), change)
    return files


def write(folder, files):
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    weights = tensors.tensors(files["config.json"], setting_cases.SEED)
    (folder / "model.safetensors").write_bytes(tensors.safetensors_bytes(weights))


def tokens(model, pair):
    """(ids, type ids) of a pair alone, as CrossEncoder.predict makes them."""
    features = model.preprocess([list(pair)], prompt=model._resolve_prompt(None, None))
    ids = features["input_ids"][0].tolist()
    types = features["token_type_ids"][0].tolist() if "token_type_ids" in features else [0] * len(ids)
    return ids, types


def check_auto_tokenizer(folder, model, pairs):
    """CrossEncoder's ids are AutoTokenizer's where CrossEncoder adds nothing of its own."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for pair in pairs:
        got = tokenizer([pair[0]], [pair[1]], truncation="longest_first", max_length=model.max_seq_length)
        if got["input_ids"][0] != tokens(model, pair)[0]:
            raise ValueError(f"AutoTokenizer and CrossEncoder differ about {pair}")


def run(folder, own):
    """Returns what CrossEncoder answers for the model in folder."""
    model = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    pairs = setting_cases.PAIRS
    if not own:
        check_auto_tokenizer(folder, model, pairs)
    identity = torch.nn.Identity()
    rows = []
    for pair in pairs:
        ids, types = tokens(model, pair)
        rows.append(
            {
                "input_ids": ids,
                "token_type_ids": types,
                "logits": common.numbers(model.predict([pair], activation_fn=identity)),
                "scores": common.numbers(model.predict([pair])),
                "softmax": common.numbers(model.predict([pair], activation_fn=identity, apply_softmax=True)),
            }
        )
    return {"max_length": model.max_seq_length, "activation": type(model.activation_fn).__name__, "pairs": rows}


def golden(name, changes):
    files = files_of(changes)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write(folder, files)
        own = "modules.json" in files
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                out = run(folder, own)
        except Exception as error:
            out = {"refused": f"{type(error).__name__}: {error}".replace(scratch, "DIR")[:200]}
    changed = {file: value for file, value in files.items() if setting_cases.BASE.get(file) != value}
    if "tokenizer.json" in changed:
        base = setting_cases.BASE["tokenizer.json"]
        changed["tokenizer.json"] = {k: v for k, v in changed["tokenizer.json"].items() if base.get(k, "") != v}
    removed = [file for file in setting_cases.BASE if file not in files]
    return {"name": name, "files": changed, "removed": removed, **out}


def check_lowercase():
    """A BertNormalizer with lowercase behind a Lowercase is that BertNormalizer alone, character by character."""
    normalizers = tokenizers.normalizers
    for strip in True, False:
        for chinese in True, False:
            inner = normalizers.BertNormalizer(lowercase=False, strip_accents=strip, handle_chinese_chars=chinese)
            two = normalizers.Sequence([normalizers.Lowercase(), inner])
            one = normalizers.BertNormalizer(lowercase=True, strip_accents=strip, handle_chinese_chars=chinese)
            for start in range(0, 0x110000, 256):
                text = " ".join(f"a{chr(c)}b" for c in range(start, start + 256) if not 0xD800 <= c < 0xE000)
                if one.normalize_str(text) != two.normalize_str(text):
                    raise ValueError(f"a character from U+{start:04X} on tells Lowercase before BertNormalizer from its own lowercase")


def make(_):
    check_lowercase()
    cases = [golden(name, changes) for name, changes in setting_cases.cases().items()]
    base = cases[0]
    for case in cases:
        # What the control of the test is for: a case that the base model's answers would not pass.
        if "pairs" in case:
            case["shows"] = [
                key
                for key in ("input_ids", "token_type_ids", "scores")
                if any(a[key] != b[key] for a, b in zip(case["pairs"], base["pairs"]))
            ]
        print(f"  {case['name']}: {case.get('refused') or case['shows']}")
    versions = common.made_with("torch", "transformers", "tokenizers", "sentence-transformers", "numpy")
    common.write_json(
        PATH, {"made_with": versions, "seed": setting_cases.SEED, "base": setting_cases.BASE, "pairs": setting_cases.PAIRS, "cases": cases}
    )
