"""engine/testdata/tokenkinds.json.gz: ids of Unigram and byte-level BPE tokenizers, as AutoTokenizer gives them.

A case is a model directory without weights. Its tokenizer.json is one of the trained vocabularies
with the case's other parts; "$charsmap" stands for the table of the trained normalizer.
"""

import array
import gzip
import hashlib
import json
import pathlib
import sys
import tempfile

import common
import token_texts
import transformers

PATH = common.ENGINE / "tokenkinds.json.gz"
TRAINED = common.ENGINE / "tokenizers"
CHUNK = 64  # pairs of a hash
FULL = 61  # of so many pairs, one is there with its ids


def added(content, **flags):
    base = {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {**base, **flags}


def template(first, last, pair, types=(0, 0)):
    """A TemplateProcessing of the tokens first and last, without their ids."""

    def pieces(text):
        out, kind = [], 0
        for piece in text.split():
            if piece == "B":
                kind = types[1]
            out.append(
                {"Sequence": {"id": piece, "type_id": kind}} if len(piece) == 1 else {"SpecialToken": {"id": piece, "type_id": kind}}
            )
        return out

    tokens = {t: {"id": t, "ids": [], "tokens": [t]} for t in (first, last)}
    return {"type": "TemplateProcessing", "single": pieces(f"{first} A {last}"), "pair": pieces(pair), "special_tokens": tokens}


PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "$charsmap"}
SPACES = {"type": "Replace", "pattern": {"Regex": " {2,}"}}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}


def sequence(name, *parts):
    key = {"Sequence": "normalizers"}.get(name, "pretokenizers")
    return {"type": "Sequence", key: list(parts)}


ADDED = [added(t) for t in ("<s>", "<pad>", "</s>", "<unk>")] + [added("<mask>", lstrip=True)]


def unigram():
    """The parts of XLM-RoBERTa's tokenizer.json."""
    return {
        "added_tokens": ADDED,
        "normalizer": PRECOMPILED,
        "pre_tokenizer": sequence("", {"type": "WhitespaceSplit"}, {**METASPACE, "prepend_scheme": "always"}),
        "post_processor": template("<s>", "</s>", "<s> A </s> </s> B </s>"),
        "model": {"type": "Unigram", "unk_id": 3},
    }


PLAIN = {"special": False, "normalized": True}

# Added tokens with every flag.
FLAGGED = [
    added("keep", **PLAIN, single_word=True),
    added("wide  gap", **PLAIN),
    added("Zażółć", **PLAIN, lstrip=True, rstrip=True),
    added("thing", special=False, rstrip=True),
    added("équ", **PLAIN, lstrip=True),
    added("|||IP|||", **PLAIN),
    added("人人", special=False),
    added("e\u0301", **PLAIN),
]


def numbered(tokens, vocab):
    """Added tokens with the ids that they get with a vocabulary."""
    ids = vocab if isinstance(vocab, dict) else {piece: n for n, (piece, _) in enumerate(vocab)}
    out, following = [], len(ids)
    for token in tokens:
        out.append({**token, "id": ids.get(token["content"], following)})
        following += token["content"] not in ids
    return out


def bpe():
    """The parts of RoBERTa's tokenizer.json, whose special tokens have the ids 0 to 4."""
    return {
        "added_tokens": ADDED,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
        },
    }


def xlm(**config):
    return {"config.json": {"model_type": "xlm-roberta"}, "tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizer", **config}}


def generic(kind, **config):
    return {"config.json": {"model_type": kind}, "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", **config}}


def cases():
    """(name, vocabulary, parts, files)."""
    base = unigram()
    tokens = {"added_tokens": ADDED + FLAGGED}
    yield "xlm-roberta", "unigram", base, xlm()
    yield (
        "xlm-roberta, other pipeline",
        "unigram",
        {**base, **tokens, "normalizer": sequence("Sequence", PRECOMPILED, {**SPACES, "content": " "}), "pre_tokenizer": METASPACE},
        xlm(model_max_length=512),
    )
    yield (
        "unigram, first",
        "unigram",
        {
            **base,
            **tokens,
            "normalizer": sequence(
                "Sequence", PRECOMPILED, {"type": "Strip", "strip_left": False, "strip_right": True}, {**SPACES, "content": "\u2581"}
            ),
            "pre_tokenizer": {**METASPACE, "prepend_scheme": "first", "split": True},
        },
        generic("xlm-roberta"),
    )
    yield (
        "unigram, never",
        "unigram",
        {
            **base,
            "normalizer": None,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": False},
            "post_processor": template("<s>", "</s>", "<s> A </s> B </s>", (0, 1)),
        },
        generic("bert", model_input_names=["input_ids", "token_type_ids", "attention_mask"]),
    )
    yield (
        "unigram, always",
        "unigram",
        {
            **base,
            **tokens,
            "normalizer": sequence("Sequence", {"type": "NFKC"}, {"type": "Lowercase"}, {**SPACES, "content": " "}),
            "pre_tokenizer": METASPACE,
        },
        generic("xlm-roberta"),
    )
    yield (
        "unigram, bytes",
        "unigram with bytes",
        {
            **base,
            "model": {**base["model"], "byte_fallback": True},
            "normalizer": sequence("Sequence", PRECOMPILED, {**SPACES, "content": " "}),
            "pre_tokenizer": {**METASPACE, "prepend_scheme": "always"},
        },
        generic("xlm-roberta"),
    )
    base = bpe()
    yield (
        "roberta",
        "bpe",
        base,
        {"config.json": {"model_type": "roberta"}, "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer"}},
    )
    yield (
        "roberta, prefix",
        "bpe",
        {**base, **tokens},
        {
            "config.json": {"model_type": "roberta"},
            "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": True, "model_max_length": 512},
        },
    )
    yield (
        "bytes, prefix",
        "bpe",
        {
            **base,
            **tokens,
            "pre_tokenizer": {**base["pre_tokenizer"], "add_prefix_space": True},
            "model": {**base["model"], "unk_token": "<unk>", "ignore_merges": True},
        },
        generic("roberta"),
    )
    spaces = [added(" " * n, **PLAIN) for n in range(24, 1, -1)]
    named = [added(t) for t in ("[UNK]", "[CLS]", "[SEP]", "[PAD]")] + [added("[MASK]", lstrip=True)]
    yield (
        "modernbert",
        "bpe",
        {
            **base,
            "normalizer": {"type": "NFC"},
            "added_tokens": spaces + [added("|||IP|||", **PLAIN)] + named,
            "post_processor": template("[CLS]", "[SEP]", "[CLS] A [SEP] B [SEP]", (0, 1)),
        },
        {
            "config.json": {"model_type": "modernbert"},
            "tokenizer_config.json": {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_input_names": ["input_ids", "attention_mask"],
                "cls_token": "[CLS]",
                "sep_token": "[SEP]",
                "mask_token": "[MASK]",
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "model_max_length": 8192,
                "clean_up_tokenization_spaces": True,
            },
        },
    )


def more_cases():
    """As cases, with a part of the pairs each: other files and classes."""
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>"}
    mask = {key: value for key, value in added("<mask>", lstrip=True).items() if key not in ("id", "special")}
    base = unigram()
    yield (
        "camembert",
        "unigram",
        base,
        {"config.json": {"model_type": "camembert"}, "tokenizer_config.json": {"tokenizer_class": "CamembertTokenizer"}},
    )
    yield "xlm-roberta, class of the model", "unigram", base, {"config.json": {"model_type": "xlm-roberta"}}
    yield (
        "xlm-roberta, old files",
        "unigram",
        base,
        {**xlm(**special, mask_token="<mask>", model_max_length=512), "special_tokens_map.json": {**special, "mask_token": mask}},
    )
    decoder = {
        str(n): {**added(t, lstrip=t == "<mask>"), "id": None}
        for n, t in ((0, "<s>"), (1, "<pad>"), (2, "</s>"), (3, "<unk>"), (len(vocabularies()["unigram"]["vocab"]) - 1, "<mask>"))
    }
    for token in decoder.values():
        del token["id"]
    yield (
        "xlm-roberta, new files",
        "unigram",
        base,
        xlm(
            **special,
            mask_token="<mask>",
            added_tokens_decoder=decoder,
            clean_up_tokenization_spaces=True,
            sp_model_kwargs={},
            model_max_length=8192,
        ),
    )
    yield (
        "bert with xlm-roberta's tokenizer",
        "unigram",
        base,
        {
            "config.json": {"model_type": "bert"},
            "tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizerFast", "add_prefix_space": False},
        },
    )
    base = bpe()
    config = {
        **special,
        "mask_token": {"__type": "AddedToken", **mask},
        "add_prefix_space": False,
        "errors": "replace",
        "trim_offsets": True,
        "model_max_length": 512,
    }
    yield (
        "roberta, old files",
        "bpe",
        base,
        {
            "config.json": {"model_type": "roberta"},
            "tokenizer_config.json": config,
            "special_tokens_map.json": {**special, "mask_token": mask},
        },
    )
    yield "roberta, generic", "bpe", base, generic("roberta", **special)
    yield (
        "roberta, BERT's template",
        "bpe",
        {**base, "post_processor": {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}},
        generic("modernbert"),
    )


def vocabularies():
    """The trained vocabularies, by name."""
    pieces, words = (json.loads(gzip.decompress((TRAINED / f"trained-{kind}.json.gz").read_bytes())) for kind in ("unigram", "bpe"))
    bytes_too = pieces["vocab"] + [[f"<0x{n:02X}>", 0.0] for n in range(256)]
    return {"unigram": pieces, "unigram with bytes": {**pieces, "vocab": bytes_too}, "bpe": words}


def complete(parts, vocabulary):
    """parts with ids."""
    parts = {**parts, "added_tokens": numbered(parts["added_tokens"], vocabulary["vocab"])}
    ids = {token["content"]: token["id"] for token in parts["added_tokens"]}
    post = parts["post_processor"]
    if "special_tokens" in post:
        parts["post_processor"] = {**post, "special_tokens": {t: {**s, "ids": [ids[t]]} for t, s in post["special_tokens"].items()}}
    return parts


def tokenizer_json(parts, vocabulary):
    text = json.dumps(parts).replace("$charsmap", vocabulary.get("charsmap", ""))
    file = {"version": "1.0", "truncation": None, "padding": None, "decoder": None, **json.loads(text)}
    file["model"].update({key: vocabulary[key] for key in ("vocab", "merges") if key in vocabulary})
    return file


def write(folder, parts, files, vocabulary):
    for file, value in {**files, "tokenizer.json": tokenizer_json(parts, vocabulary)}.items():
        (folder / file).write_text(json.dumps(value))


def tokens(tokenizer, query, document, maximum, side):
    tokenizer.truncation_side = side
    out = tokenizer([query], [document], truncation="longest_first", max_length=maximum)
    ids = out["input_ids"][0]
    return ids, out["token_type_ids"][0] if "token_type_ids" in out else [0] * len(ids)


def digest(pairs):
    """The start of the SHA-256 of the ids and type ids of pairs."""
    sha = hashlib.sha256()
    for ids, types in pairs:
        numbers = array.array("i", [len(ids), *ids, *types])
        if sys.byteorder != "little":
            numbers.byteswap()
        sha.update(numbers.tobytes())
    return sha.hexdigest()[:8]


def golden(name, kind, parts, files, vocabulary, pairs, every):
    pairs = pairs[::every]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write(folder, parts, files, vocabulary)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [tokens(tokenizer, *pair) for pair in pairs]
    full = [[n, *rows[n]] for n in range(0, len(rows), FULL) if len(rows[n][0]) < 600]
    print(f"  {name}: {type(tokenizer).__name__}, {len(rows)} pairs, {sum(len(ids) for ids, _ in rows)} tokens")
    return {
        "name": name,
        "vocabulary": kind,
        "parts": parts,
        "files": files,
        "class": type(tokenizer).__name__,
        "every": every,
        "hashes": "".join(digest(rows[n : n + CHUNK]) for n in range(0, len(rows), CHUNK)),
        "full": full,
    }


def make(_):
    trained = vocabularies()
    pairs = list(token_texts.pairs())
    text = hashlib.sha256("".join(f"{len(q)} {q}{d} {n}{s}\n" for q, d, n, s in pairs).encode()).hexdigest()
    out = [
        golden(name, kind, complete(parts, trained[kind]), files, trained[kind], pairs, every)
        for every, made in ((1, cases()), (8, more_cases()))
        for name, kind, parts, files in made
    ]
    common.write_json(
        PATH, {"made_with": common.made_with("transformers", "tokenizers"), "pairs": len(pairs), "texts_sha256": text, "cases": out}
    )
