"""engine/testdata/tokens.jsonl.gz: ids and type ids as Hugging Face's tokenizers gives them."""

import base64
import collections
import hashlib
import json
import re

import common
import token_cases
import tokenizers

PATH = common.ENGINE / "tokens.jsonl.gz"


def valid(text):
    """text, or if bytes, with each run of invalid UTF-8 as one U+FFFD: Go's strings.ToValidUTF8."""
    if isinstance(text, str):
        return text
    return re.sub("[\udc80-\udcff]+", "\ufffd", text.decode("utf-8", "surrogateescape"))


def encode(tokenizer, maximum, query, document, direction="right"):
    """(ids, type ids) of a pair as a member of a batch, where an empty document stays a document."""
    tokenizer.enable_truncation(maximum, strategy="longest_first", direction=direction)
    encoding = tokenizer.encode_batch([(valid(query), valid(document))])[0]
    return encoding.ids, encoding.type_ids


def without_nul(text, replacement):
    return valid(text).replace("\0", replacement)


def field(name, text):
    if isinstance(text, bytes):
        return {name + "_b64": base64.b64encode(text).decode()}
    return {name: text}


def check_nul(tokenizer, maximum, query, document, want):
    """A library that cuts text at NUL may replace it by these, and nothing changes."""
    for replacement in "\u0001", "\ufffd":
        pair = without_nul(query, replacement), without_nul(document, replacement)
        if encode(tokenizer, maximum, *pair) != want:
            raise ValueError(f"U+{ord(replacement):04X} is no replacement for NUL in {query!r}, {document!r}")


def real_pairs(source):
    """[(query, document)] of a JSONL file, or of the golden itself."""
    if source:
        with open(source, encoding="utf-8") as f:
            return [(p["query"], p["document"]) for p in map(json.loads, f)]
    return [(c["query"], c["document"]) for c in common.read_lines(PATH)[1:] if c["name"].startswith("debian/")]


def make(args):
    data = (args.base / "tokenizer.json").read_bytes()
    tokenizer = tokenizers.Tokenizer.from_str(data.decode())
    tokenizer.no_padding()
    lines, families = [], collections.Counter()

    def is_token(word):
        return len(tokenizer.encode(word, add_special_tokens=False).ids) == 1

    for family, maximum, query, document in token_cases.cases(real_pairs(args.texts), is_token):
        ids, types = encode(tokenizer, maximum, query, document)
        check_nul(tokenizer, maximum, query, document, (ids, types))
        lines.append(
            {
                "name": f"{family}/{families[family]}",
                "max_length": maximum,
                **field("query", query),
                **field("document", document),
                "input_ids": ids,
                "token_type_ids": types,
            }
        )
        families[family] += 1
    header = {"made_with": common.made_with("tokenizers"), "tokenizer_sha256": hashlib.sha256(data).hexdigest(), "cases": len(lines)}
    common.write_lines(PATH, [header, *lines])
    print(f"  {len(lines)} cases: {dict(families)}")
