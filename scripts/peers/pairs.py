"""The benchmark's pairs, and sets of other lengths made of their texts."""

import gzip
import json

import protocol
import tokenizers

SHORT_WORDS = 8


def read(root):
    """The 3,200 pairs that come with the program: 32 queries, 100 candidates each."""
    with gzip.open(root / "bench" / "workload" / "data" / "pairs.jsonl.gz", "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return [[row["query"], row["document"]] for row in rows]


class Lengths:
    def __init__(self, folder):
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.maximum = protocol.maximum(folder)

    def whole(self, pairs):
        """Tokens of each pair, before any cut."""
        return [len(e.ids) for e in self.tokenizer.encode_batch([tuple(p) for p in pairs])]

    def cut(self, pairs):
        return [min(n, self.maximum) for n in self.whole(pairs)]


# Functions of a row's sets of pairs, which are timed, by name. A part of one from
# its start is like the whole.


def mixed(pairs, size, maximum):
    return {"mixed": [pairs[i] for i in stride(len(pairs), size)]}


def all_lengths(pairs, size, maximum):
    spread = mixed(pairs, size, maximum)["mixed"]
    return {
        "mixed": spread,
        "short": [[query, " ".join(document.split()[:SHORT_WORDS])] for query, document in spread[: size // 2]],
        "long": [[query, long(pairs, i, maximum)] for i, (query, _) in enumerate(spread[: max(4, size // 32)])],
    }


def full(pairs, size, maximum):
    """Pairs of the maximum length, four of a query."""
    return {"full": [[pairs[i // 4 * 100][0], long(pairs, 37 * i, maximum)] for i in range(max(4, size // 32))]}


def stride(count, size):
    """size places spread over count, neighbours far apart: 997 is prime to any set's size here."""
    step = count / size
    return [int((i * 997) % size * step) for i in range(size)]


def long(pairs, at, maximum):
    """The documents from place at on, put together: more than the maximum of tokens."""
    words = []
    while len(words) < maximum:
        words += pairs[at % len(pairs)][1].split()
        at += 1
    return " ".join(words)


def requests(pairs, count, size=20):
    """Requests of one query and size documents of its."""
    by_query = {}
    for query, document in pairs:
        by_query.setdefault(query, []).append([query, document])
    groups = [g for g in by_query.values() if len(g) >= size]
    return [groups[i % len(groups)][:size] for i in range(count)]
