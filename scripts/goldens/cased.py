"""engine/testdata/cased.json.gz: a tokenizer with a cased vocabulary, and what it makes of the token cases."""

import collections
import json

import common
import tokenizers
import tokens

PATH = common.ENGINE / "cased.json.gz"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = 3000
EVERY = 4  # of the token cases


def vocabulary(texts):
    """Special tokens, single characters alone and as continuations, and the commonest words."""
    pre = tokenizers.pre_tokenizers.BertPreTokenizer()
    words = collections.Counter(word for text in texts for word, _ in pre.pre_tokenize_str(text))
    characters = sorted({c for word in words for c in word if ord(c) < 0x250})
    common_words = [word for word, _ in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:WORDS]]
    return list(dict.fromkeys(SPECIAL + characters + ["##" + c for c in characters] + common_words))


def build(vocab):
    """As bert-base-cased's tokenizer.json: case and accents are kept."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece({word: n for n, word in enumerate(vocab)}, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def make(_):
    real = tokens.real_pairs(None)
    tokenizer = build(vocabulary([text for pair in real for text in pair]))
    file = json.loads(tokenizer.to_str())
    cases = []
    for n, case in enumerate(common.read_lines(tokens.PATH)[1:]):
        if n % EVERY or any(key.endswith("_b64") for key in case):
            continue
        ids, types = tokens.encode(tokenizer, case["max_length"], case["query"], case["document"])
        cases.append({"name": case["name"], "input_ids": ids, "token_type_ids": types})
    common.write_json(PATH, {"made_with": common.made_with("tokenizers"), "tokenizer": file, "cases": cases})
    print(f"  {len(cases)} cases, {tokenizer.get_vocab_size()} tokens")
