"""The texts of the token golden: what real text rarely has, and real text.

A case is (family, max_length, query, document); a text is str, or bytes where
it is not valid UTF-8. Everything is a function of the real pairs given, so the
same pairs give the same cases.
"""

import itertools
import random
import unicodedata

MAX_LENGTHS = [3, 4, 5, 8, 16, 64, 128, 256, 512]

SPECIAL = ["[SEP]", "[CLS]", "[MASK]", "[PAD]", "[UNK]"]

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Zażółć gęślą jaźń – pchnąć w tę łódź jeża lub ośm skrzyń fig.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy; ŘEKNI TO ZNOVU.",
    "Der Fuß des größten Übels: Straße, STRASSE, ẞ und Äpfel.",
    "L’œuvre complète coûte 12 €, où ça ? À Nîmes, « peut-être »…",
    "İstanbul'da ılık ışıklar: IĞDIR, ığdır, İ, i̇, ı, I.",
    "Tiếng Việt: Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΌΣΟΣ ΣΊΣΥΦΟΣ ᾳ ᾼ ῷ",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. ЁЖИК Ӹ",
    "שָׁלוֹם עֲלֵיכֶם, בְּרֵאשִׁית בָּרָא אֱלֹהִים",
    "اللُّغَةُ العَرَبِيَّةُ جميلةٌ جدًّا، ١٢٣ لا إله",
    "فارسی را پاس بداریم؛ می‌خواهم نیم‌فاصله",
    "हिन्दी में लिखा हुआ क्षत्रिय ज्ञान ४५६",
    "தமிழ் மொழி மிகவும் பழமையானது",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ กำลังทดสอบ",
    "한국어 문장입니다. 값이 없는 닭 ᄒ ᆞ ᆫ 각",
    "日本語の文章です。ガギグゲゴ がぎぐげご ﾊﾝｶｸ カ゛",
    "中文句子没有空格，但有標點符號。𠀀𠮷野家 㐀 豈 更",
    "粵語：你食咗飯未呀？冇問題！",
    "Հայերեն այբուբեն, ქართული ანბანი, አማርኛ ፊደል",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ꭰꭱꭲ ᚠᚢᚦᚨᚱᚲ 𐌰𐌱𐌲 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟘𝟙𝟚",
    "ﬁne ﬂuﬀy oﬃce ﬅaﬆ ĳsĲ Ǆ ǅ ǆ Œ æ",
    "½ ⅓ ² ³ ¹ ₁ ₂ Ⅷ ⅷ ① ㊿ ㎏ ℃ № ™ ℡",
    "e = mc², ∀x∈ℝ: ⌈x⌉ ≥ x ∧ ∫₀^∞ e^{-x²} dx = √π/2",
    "C++ & C#; a/b\\c|d <tag attr='x'> \"q\" `code` $PATH ~/.x {y} [z] (w) @u #t 100% ^_^ =+-*!?",
    "see https://example.org/a?b=c&d=%20#e or mail user.name+tag@example.org (v1.2.3-rc4)",
    "don't can't I'm we've o'clock rock'n'roll 'quoted' ‘curly’ “double” „low“ ‚x‘",
    "snake_case camelCase SCREAMING_CASE kebab-case x86_64 i386 0x1F 1e-12 3.14159 1,000,000",
]

EMOJI = [
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇩🇪🇫🇷", "1️⃣#️⃣", "❤️", "❤", "🧑🏿‍🚀", "☺︎☺️", "🤦🏼‍♂️", "©️®️™️", "🫠🪿", "⌚⏰✈☎",
]

COMBINING = [
    "é", "é", "ế", "ế", "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘", "́alone", " ̈ space", "å Å Å", "ṩ ṩ ṩ", "q̣̇ q̣̇",
    "가 가", "क़ क़", "ﷺ", "ſ ẛ̣", "Ω Ω", "한글 한글",
]

EDGES = [
    "\u0000", "\u0001", "\u007f", "\u0080", "\u009f", "\u00a0", "\u00ad", "\u034f", "\u061c", "\u115f", "\u1160", "\u17b4", "\u180e",
    "\u200b", "\u200c", "\u200d", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202e", "\u2060", "\u2064", "\u2066", "\u206f",
    "\ud7a3", "\ud7ff", "\ue000", "\uf8ff", "\ufdcf", "\ufdd0", "\ufdef", "\ufe00", "\ufe0f", "\ufeff", "\ufff9", "\ufffb", "\ufffc",
    "\ufffd", "\ufffe", "\uffff", "\U00010000", "\U0001fffe", "\U0001ffff", "\U0002a6df", "\U0002f800", "\U0003ffff", "\U000e0001",
    "\U000e0041", "\U000e01ef", "\U000f0000", "\U000ffffd", "\U00100000", "\U0010fffe", "\U0010ffff", "\u0378", "\u0530", "\u2fe0",
]

SPACES = [
    "\t", "\n", "\v", "\f", "\r", "\x1c", "\x1d", "\x1e", "\x1f", " ", "\x85", "\xa0", "\u1680", "\u2000", "\u2001", "\u2002",
    "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000",
]

INVALID = [
    b"\xff", b"\xfe\xff", b"\x80", b"\xbf\xbf\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2(\xa1", b"\xe2\x82(",
    b"\xe0\x80\xaf", b"\xed\xa0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xed\xbf\xbf", b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf0", b"\xf0\x80\x80\xaf",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xef\xbf", b"\xef\xbf\xbd\xff\xef\xbf\xbd",
]


class Chooser:
    """Choices from random.random alone, whose sequence Python promises to keep."""

    def __init__(self, seed):
        self.random = random.Random(seed).random

    def below(self, n):
        return int(self.random() * n)

    def one(self, items):
        return items[self.below(len(items))]

    def some(self, items, count):
        return [self.one(items) for _ in range(count)]


def empty():
    """Nothing, or what becomes nothing, on either side."""
    texts = ["", " ", "    ", "\t\r\n", "\u3000\u2003", "\0", "\0\0 \0", "\u200b\ufeff", "\ufffd", "a", b"\xff\xfe", "\x07\x1b"]
    for q, d, n in itertools.product(texts, texts, (3, 4, 512)):
        if n == 512 or (texts.index(q) + texts.index(d)) % 4 == 0:
            yield "empty", n, q, d


def control():
    """Each odd character within a word, alone, between words and in a special token."""
    for c in dict.fromkeys([chr(n) for n in (*range(32), *range(0x7F, 0xA1))] + SPACES + EDGES):
        yield "control", 512, f"foo{c}bar {c} baz", f"{c}[SE{c}P] [SEP]{c}{c}[{c}CLS]{c}x{c}"


def special():
    """Text that spells special tokens, or nearly does."""
    for token in SPECIAL:
        name = token[1:-1]
        for s in (
            token, token.lower(), token.title(), f" {token} ", f"a{token}b", token * 3, f"[ {name} ]", f"[{name[:2]}\0{name[2:]}]",
            f"[\0{name}]", f"[{name}\0]", f"[{name[:2]}\u200b{name[2:]}]", f"[{name[:2]}\u0301{name[2:]}]", f"[{token}]", f"[{name}",
            f"{name}]", f"\\{token}", f"##{name}", f"{token}##ing", f"[{name.translate({69: 0x415, 67: 0x421, 77: 0x41C})}]", f"［{name}］",
        ):
            yield "special", 512, s, f"what {s} means"
            yield "special", 8, f"q {s} q", f"{s} {s}"
    for a, b in itertools.product(SPECIAL, SPECIAL):
        yield "special", 6, f"{a}{b}", f"{b} {a}{a}"
    yield "special", 512, b"[SE\xffP] [\xc3SEP]", b"[SEP\xf0\x9f] [SEP]\xff[CLS]"


def blocks():
    """Characters by the block: all of most alphabets, every nth of the large ones."""
    ranges = [
        (0xA0, 0x600, 1), (0x600, 0x1100, 5), (0x1100, 0x1200, 3), (0x1200, 0x1E00, 17), (0x1E00, 0x2C00, 3), (0x2C00, 0x3400, 7),
        (0x3400, 0x4E00, 211), (0x4E00, 0xA000, 97), (0xA000, 0xAC00, 43), (0xAC00, 0xD7A4, 211), (0xE000, 0xF900, 331), (0xF900, 0xFB00, 11),
        (0xFB00, 0xFE00, 9), (0xFE00, 0x10000, 2), (0x10000, 0x1F000, 331), (0x1F000, 0x1FB00, 23), (0x1FB00, 0x20000, 97),
        (0x20000, 0x30000, 2503), (0x30000, 0xE0000, 40009), (0xE0000, 0xE0200, 29), (0xE0200, 0x110000, 9973),
    ]
    chars = [chr(c) for r in ranges for c in range(*r)]
    for n in range(0, len(chars), 32):
        part = chars[n : n + 32]
        yield "blocks", 512, "".join(part), " ".join(f"a{c}b" for c in part)


def languages(choose):
    """Sentences of many scripts, emoji and combining marks, against each other."""
    texts = SENTENCES + EMOJI + COMBINING
    for n, text in enumerate(texts):
        yield "languages", 512, text, texts[(n * 7 + 3) % len(texts)]
        yield "languages", choose.one(MAX_LENGTHS), text.upper(), unicodedata.normalize("NFD", text)
        yield "languages", choose.one(MAX_LENGTHS), f"{text}{choose.one(EMOJI)}{text}", f"x{text}y" + unicodedata.normalize("NFKC", text)


def words():
    """Words about as long as WordPiece takes (100 characters), and far longer."""
    units = ["a", "x", "7", "é", "e\u0301", "İ", "ß", "ж", "語", "-", "\u00ad", "\u200d", "ab", "un", "क", "😀", "ǆ"]
    for n, unit in itertools.product((49, 50, 51, 99, 100, 101, 102, 300), units):
        word = unit * n
        yield "words", 512 if n < 300 else 64, word, f"pre {word}s {word[:-1]},{word[1:]} post"


def lengths(pieces):
    """Both sides at every limit that truncation has, for each maximum; pieces are words of one token."""
    for maximum in MAX_LENGTHS:
        budget = maximum - 3
        around = {0, 1, budget // 2 - 1, budget // 2, budget // 2 + 1, budget - 1, budget, budget + 1, 2 * budget + 5}
        sizes = sorted(n for n in around if n >= 0)
        for i, (q, d) in enumerate(itertools.product(sizes, sizes)):
            at = (i * 13) % 50
            yield "lengths", maximum, " ".join(pieces[at : at + q]), " ".join(pieces[at + 5 : at + 5 + d])


def long(passage, real):
    """Documents of 20,000 characters and queries far over 512 tokens."""
    units = [passage, "字符" + SENTENCES[17], "".join(EMOJI), "a", ".", " ", "\0", "[SEP]", "e\u0301", "İ", "x ", SENTENCES[9] + " ", "\ufffd!"]
    documents = [(u * (20000 // len(u) + 1))[:20000] for u in units]
    documents += [(" ".join(d for _, d in real[n::9]))[:20000] for n in range(2)]
    for n, document in enumerate(documents):
        yield "long", 512, real[n][0], document
        # Not below 64: tokenizers keeps every pair of the parts it cuts off.
        yield "long", (64, 128, 256, 512)[n % 4], document[:4000], document[100:3000]
        yield "long", 512, document[:8000], real[n][0]
    yield "long", 512, (passage * 20)[:20000].encode() + b"\xff", b"\xe2\x82" * 5000 + passage.encode()


def invalid(real):
    """Bytes that are no UTF-8, by themselves and within text."""
    for n, part in enumerate(INVALID):
        yield "invalid", 512, part, b"foo" + part + b"bar " + part + b" baz"
        yield "invalid", 16, SENTENCES[n].encode() + part, part + SENTENCES[-n - 1].encode()[1:]
    for n, sentence in enumerate(SENTENCES):
        data = sentence.encode()
        yield "invalid", 512, data[n + 1 :], data[: len(data) // 2 + n % 3] + data[len(data) // 2 + n % 3 + 1 :]
        yield "invalid", 64, sentence.encode("utf-16-le"), sentence.encode("latin-1", "replace")
    for q, d in real[:20]:
        data = bytearray(d.encode())
        data[len(data) // 3] |= 0x80
        yield "invalid", 512, q, bytes(data)


def mixed(choose, real, count):
    """Random mixtures of all of the above."""
    pool = SENTENCES + EMOJI + COMBINING + EDGES + SPACES + SPECIAL + ["[SE\0P]", "", " ", "the", "##ing", "a" * 101, "!?"]
    for _ in range(count):
        q, d = choose.one(real)
        texts = []
        for text in (q, d):
            parts = choose.some(pool, 1 + choose.below(6))
            cut = choose.below(len(text) + 1)
            texts.append(text[cut : cut + 80] + choose.one(["", " ", "-"]).join(parts))
        yield "mixed", choose.one(MAX_LENGTHS), *texts


def debian(real):
    """Real pairs at real maxima."""
    for n, (q, d) in enumerate(real):
        yield "debian", (512, 512, 256, 128, 64)[n % 5], q, d


def cases(real, is_token):
    """All cases of the real pairs [(query, document), ...], without repetition.

    At least 60 pairs are needed, the first 40 of them with plain English
    documents; is_token says whether a word is one token.
    """
    choose = Chooser(20260101)
    passage = " ".join(d for _, d in real[:40])
    pieces = [word for word in passage.split() if is_token(word)]
    found = itertools.chain(
        empty(), control(), special(), blocks(), languages(choose), words(), lengths(pieces), long(passage, real),
        invalid(real), mixed(choose, real, 250), debian(real),
    )
    return list(dict.fromkeys(found))
