"""engine/testdata/left.json.gz: token cases that do not fit, truncated on the left."""

import base64

import common
import tokenizers
import tokens

PATH = common.ENGINE / "left.json.gz"
EVERY = 4  # of the cases that do not fit


def text(case, name):
    encoded = case.get(name + "_b64")
    return case.get(name, "") if encoded is None else base64.b64decode(encoded)


def make(args):
    tokenizer = tokenizers.Tokenizer.from_str((args.base / "tokenizer.json").read_text())
    tokenizer.no_padding()
    cases, seen = [], 0
    for case in common.read_lines(tokens.PATH)[1:]:
        pair = text(case, "query"), text(case, "document")
        ids, types = tokens.encode(tokenizer, case["max_length"], *pair, direction="left")
        if ids == case["input_ids"]:
            continue
        seen += 1
        if case["name"].startswith("long/") or seen % EVERY == 0:
            cases.append({"name": case["name"], "max_length": case["max_length"], "input_ids": ids, "token_type_ids": types})
    common.write_json(PATH, {"made_with": common.made_with("tokenizers"), "cases": cases})
    print(f"  {len(cases)} of {seen} cases")
