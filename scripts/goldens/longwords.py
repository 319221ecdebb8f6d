"""engine/testdata/longwords.json.gz: ids of texts with long stretches without white space and ASCII punctuation."""

import random

import common
import tokenizers

PATH = common.ENGINE / "longwords.json.gz"
LONG = 20_000  # characters; more than twice what is tokenised at once
WORD = 100     # characters that a word may have

# What a stretch is made of: letters, letters with marks, and what is no letter.
UNITS = {
    "a": "a", "upper": "PAD", "digits": "0123456789", "hex": "deadBEEF09", "accents": "éÀñ", "decomposed": "e\u0301o\u0308\u0323",
    "greek": "Σίσυφος", "cyrillic": "ёжЙ", "hebrew": "שלום", "arabic": "سَلام", "thai": "ภาษาไทยที่", "hangul": "한국어", "kana": "ひらガナ",
    "dotted": "İI", "sharp": "ßẞ", "marks": "\u0301", "emoji": "😀", "zero width": "a\u200d", "control": "a\u0001b", "replacement": "x\ufffdy",
    "private": "\ue000", "han": "東京", "han and kana": "東ア", "fullwidth": "ａｂｃ", "wide space": "ab\u3000", "wide stop": "ab\u3002",
    "no-break": "abc\u00a0", "soft hyphen": "ab\u00ad", "dash": "ab\u2014", "unassigned": "a\U000e1fff", "devanagari": "नमस्ते",
}


def cases():
    """(name, [(text, repeated)]) of every case."""
    for name, unit in UNITS.items():
        yield name, [("red ", 1), (unit, LONG // len(unit)), (" fox", 1)]
        yield name + " joined", [("the city", 1), (unit, LONG // len(unit)), ("river, 東 end", 1)]
        for n in (WORD - 1, WORD, WORD + 1):
            yield f"{name} {n}", [(unit, n // len(unit)), (unit[: n % len(unit)], 1), (" fox", 1)]
    for inside in ("[SEP]", "[sep]", "[MASK", "PAD]", "##ing", "\u0301", "東", "\u3000", "\u2019", "\u200b", " "):
        yield f"inside {inside!r}", [("ab", LONG), (inside, 1), ("cd", LONG)]
        yield f"ends {inside!r}", [(inside, 1), ("Ab", LONG), (inside, 1)]
    r = random.Random(14)
    units = list(UNITS.values())
    for i in range(60):
        yield f"mixed {i}", [(r.choice(units), r.choice([1, 3, 50, 99, 101, 210, 3000])) for _ in range(r.randint(3, 9))]


def make(args):
    tokenizer = tokenizers.Tokenizer.from_file(str(args.base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lines = []
    for name, parts in cases():
        text = "".join(part * n for part, n in parts)
        lines.append({"name": name, "parts": [{"text": t, "times": n} for t, n in parts],
                      "ids": tokenizer.encode(text, add_special_tokens=False).ids})
    common.write_json(PATH, {"made_with": common.made_with("tokenizers"), "cases": lines})
    print(f"  {len(lines)} cases")
