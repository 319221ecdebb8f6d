"""BM25 in a few lines: the first stage of every figure and the source of hard negatives.

score(q, d) = sum over terms of q of idf(t) * tf / (tf + K1 * (1 - B + B * length / mean length)),
with idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5)), as Lucene computes it. Terms are runs of letters and
digits in lower case, without the stop words below, under the Snowball stemmer for English.
"""

import heapq
import math
import re
from collections import Counter, defaultdict

import snowballstemmer

K1 = 1.2
B = 0.75
TERM = re.compile(r"[^\W_]+")
# The stop words of Lucene's EnglishAnalyzer.
STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)
_stemmer = snowballstemmer.stemmer("english")
_stems = {}


def terms(text):
    found = []
    for word in TERM.findall(text.lower()):
        if word not in STOP:
            if word not in _stems:
                _stems[word] = _stemmer.stemWord(word)
            found.append(_stems[word])
    return found


class Index:
    """Documents by number, with the parts of BM25 that do not depend on the query computed once."""

    def __init__(self, documents):
        counts = [Counter(terms(d)) for d in documents]
        lengths = [sum(c.values()) for c in counts]
        mean = sum(lengths) / max(1, len(lengths)) or 1
        self.postings = defaultdict(list)
        for number, (count, length) in enumerate(zip(counts, lengths)):
            norm = K1 * (1 - B + B * length / mean)
            for term, tf in count.items():
                self.postings[term].append((number, tf / (tf + norm)))
        self.idf = {t: math.log(1 + (len(counts) - len(p) + 0.5) / (len(p) + 0.5)) for t, p in self.postings.items()}

    def top(self, query, depth):
        """(number, score) of the best documents with a term of query; ties by number."""
        scores = defaultdict(float)
        for term in terms(query):
            for number, weight in self.postings.get(term, ()):
                scores[number] += self.idf[term] * weight
        return heapq.nsmallest(depth, scores.items(), key=lambda item: (-item[1], item[0]))
