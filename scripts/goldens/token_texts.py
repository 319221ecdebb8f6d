"""Pairs of texts that the engine's tests make too, from the same data and random numbers.

engine/tokenkinds_test.go has the same functions; a change needs both, and a new golden.
"""

import json

import common

LANGUAGES = common.ENGINE / "languages.json"
MASK = (1 << 64) - 1
BLOCK = 64  # characters of a pair that has every character
RANDOM = 4000
LENGTHS = [5, 6, 7, 8, 9, 16, 31, 64, 65, 128, 512]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\u2003", "\u0085", " \n ", "\v", "\f"]
JOINS = ["", "", " ", " ", "\n", "-"]
SPECIAL = [
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
    "<unk>",
    " <mask> ",
    "<mask>  ",
    "[SEP]",
    "[CLS]",
    "[MASK]",
    " [MASK] ",
    "[UNK]",
    "<S>",
    "<s",
    "/s>",
    "<0x41>",
    "\u2581",
    "\u2581\u2581a",
    "\0",
    "a\0b",
    "\0\0 \0",
    "<s\0>",
    "\U0010ffff",
    "\U0010ffff0",
    "\u0120",
    "\u0120a",
    "|||IP|||",
    "keep",
    " Keep ",
    "KEEP",
    "keeper",
    "wide  gap",
    "a.b",
    "'s",
    "I'll",
    "don't've",
    "\ufffd",
    "e\u0301",
    " \u0301",
    "\ufb01",
    "\u2460",
    "\uff21\uff42",
]


class Numbers:
    """The generator SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def pool():
    """The texts of the golden tokens that are valid UTF-8 and not long."""
    texts = []
    for case in common.read_lines(common.ENGINE / "tokens.jsonl.gz")[1:]:
        texts += [case[key] for key in ("query", "document") if key in case]
    return list(dict.fromkeys(text for text in texts if "\0" not in text and 0 < len(text) <= 400))


def languages():
    return [text for _, text in json.loads(LANGUAGES.read_text())]


def part(numbers, texts, sentences):
    kind = numbers.below(8)
    if kind < 4:
        text = texts[numbers.below(len(texts))]
        start = numbers.below(len(text))
        return text[start : start + numbers.below(60)]
    if kind == 4:
        return sentences[numbers.below(len(sentences))]
    if kind == 5:
        return SPECIAL[numbers.below(len(SPECIAL))]
    if kind == 6:
        return SPACES[numbers.below(len(SPACES))] * (1 + numbers.below(4))
    c = 1 + numbers.below(0x10FFFF)
    return chr(0x20 if 0xD800 <= c < 0xE000 else c) * (1 + numbers.below(3))


def text(numbers, texts, sentences):
    out = ""
    if numbers.below(30) == 0:
        return out
    for _ in range(1 + numbers.below(5)):
        out += part(numbers, texts, sentences) + JOINS[numbers.below(len(JOINS))]
    return out


def scalars():
    """(query, document, maximum, side) with every Unicode scalar value, twice."""
    for start in range(0, 0x110000, BLOCK):
        chars = [chr(c) for c in range(start, start + BLOCK) if not 0xD800 <= c < 0xE000]
        if chars:
            yield "".join(chars), " ".join(f"a{c}b" for c in chars), 4096, "right"


def mixed():
    texts, sentences = pool(), languages()
    for n in range(RANDOM):
        numbers = Numbers(n)
        query = text(numbers, texts, sentences)
        document = text(numbers, texts, sentences) + text(numbers, texts, sentences)
        maximum, side = LENGTHS[numbers.below(len(LENGTHS))], ("right", "right", "left")[numbers.below(3)]
        # tokenizers keeps every pair of the parts that it cuts off, which takes long.
        yield query, document, maximum if len(query) + len(document) < 150 else max(maximum, 64), side


def long():
    """Texts that are tokenised in parts: of sentences, of one repeated, and without spaces."""
    texts, sentences = pool(), languages()
    for n, sentence in enumerate(sentences):
        numbers = Numbers(1000000 + n)
        side = ("right", "left")[n % 2]
        yield sentence, "".join(text(numbers, texts, sentences) for _ in range(80)), 512, side
        yield sentence, (sentence + " ") * (9000 // len(sentence)), 1024, side
        yield sentence, sentence.replace(" ", "") * (6000 // len(sentence)), 2048, side


def pairs():
    yield from scalars()
    yield from mixed()
    yield from long()
