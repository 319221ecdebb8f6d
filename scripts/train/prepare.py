"""Training groups: a question, the text that answers it and hard negatives, with the trunk's own cosines.

Negatives are drawn from BM25's first texts and from the encoder's nearest ones, both within the source, and one
at random. Not taken: texts that answer the same question, texts of the same group (a package's family, a
page), texts nearly equal to the positive, and texts much nearer to the question than the positive is, which
often answer it too.
"""

import json
import random
import sys

import bm25
import numpy as np
import sources

NEGATIVES = 5
DEPTH = 20
SAME = 0.93
NEARER = 0.15
# Texts of a source that are indexed and embedded, the positives included.
CORPUS = 1200
# Further questions of a source, for the second part of training.
MORE = 2000


class Source:
    def __init__(self, name, pairs, count, encoder, extra=None):
        draw = random.Random(f"{sources.SEED} {name}")
        pairs = list(pairs)
        draw.shuffle(pairs)
        self.pairs = pairs[:count]
        self.groups = {}
        for _, document, group in pairs[:CORPUS] if extra is None else ():
            self.groups.setdefault(document, group)
        for document, group in extra or ():
            self.groups.setdefault(document, group)
        for _, document, group in self.pairs:
            self.groups.setdefault(document, group)
        self.documents = list(self.groups)
        self.number = {d: n for n, d in enumerate(self.documents)}
        self.answers = {}
        for question, document, _ in pairs:
            self.answers.setdefault(question, set()).add(document)
        self.draw = draw
        self.index = bm25.Index(self.documents)
        self.vectors = encoder.embed(self.documents)
        self.questions = encoder.embed([q for q, _, _ in self.pairs])

    def group(self, n):
        """The nth question's line of the file of groups, or None if it has too few negatives."""
        question, document, family = self.pairs[n]
        positive = self.number[document]
        cosines = self.vectors @ self.questions[n]
        alike = self.vectors @ self.vectors[positive]

        def fits(other):
            text = self.documents[other]
            return (
                text not in self.answers[question]
                and (family is None or self.groups[text] != family)
                and alike[other] < SAME
                and cosines[other] < cosines[positive] + NEARER
            )

        lexical = [m for m, _ in self.index.top(question, DEPTH + 1) if fits(m)][:DEPTH]
        nearest = [int(m) for m in np.argsort(-cosines)[: 2 * DEPTH] if fits(m)][:DEPTH]
        chosen = self.draw.sample(lexical, min(2, len(lexical)))
        rest = [m for m in nearest if m not in chosen]
        chosen += self.draw.sample(rest, min(NEGATIVES - 1 - len(chosen), len(rest)))
        for _ in range(100):
            if len(chosen) == NEGATIVES:
                break
            other = self.draw.randrange(len(self.documents))
            if other != positive and other not in chosen and fits(other):
                chosen.append(other)
        if len(chosen) < NEGATIVES:
            return None
        members = [positive, *chosen]
        return {
            "question": question,
            "documents": [self.documents[m][:2000] for m in members],
            "cosines": [round(float(cosines[m]), 4) for m in members],
        }


def groups(clones, debian_path, encoder):
    """The groups of all sources, source by source."""
    for name, (pairs, count) in sources.all_sources(clones, debian_path).items():
        extra = None
        if name == "debian":
            rows, held = sources.debian(debian_path)
            extra = [(r["long"], r["package"].split("-")[0]) for n, r in enumerate(rows) if n not in held]
            extra = random.Random(sources.SEED).sample(extra, 2 * CORPUS)
        source = Source(name, pairs, count, encoder, extra)
        made = [g for g in map(source.group, range(len(source.pairs))) if g]
        ranks = np.array([sum(c > g["cosines"][0] for c in g["cosines"]) for g in made])
        print(f"{name}: {len(made)} groups of {len(source.documents)} texts, cosine top-1 {np.mean(ranks == 0):.3f}", file=sys.stderr)
        for group in made:
            yield {"source": name, **group}


class Further:
    """Questions of a source that Source does not take; negatives are BM25's and one at random."""

    def __init__(self, name, pairs, count):
        self.draw = random.Random(f"{sources.SEED} {name}")
        pairs = list(pairs)
        self.draw.shuffle(pairs)
        self.pairs = pairs[count : count + MORE]
        self.documents = list({d: None for _, d, _ in pairs[count : count + 2 * MORE]})
        self.family = {d: f for _, d, f in pairs}
        self.answers = {}
        for question, document, _ in pairs:
            self.answers.setdefault(question, set()).add(document)
        self.index = bm25.Index(self.documents)

    def group(self, question, document, family):
        def fits(text):
            return text not in self.answers[question] and (family is None or self.family[text] != family)

        lexical = [self.documents[m] for m, _ in self.index.top(question, DEPTH + 1) if fits(self.documents[m])]
        chosen = self.draw.sample(lexical, min(NEGATIVES - 1, len(lexical)))
        rest = self.draw.sample(self.documents, 3 * NEGATIVES)
        chosen += [t for t in rest if fits(t) and t not in chosen][: NEGATIVES - len(chosen)]
        if len(chosen) < NEGATIVES:
            return None
        return {"question": question, "documents": [t[:2000] for t in [document, *chosen]]}


def more(clones, debian_path):
    """Groups of further questions, made without the encoder."""
    for name, (pairs, count) in sources.all_sources(clones, debian_path).items():
        source = Further(name, pairs, count)
        made = [g for g in (source.group(*pair) for pair in source.pairs) if g]
        print(f"{name}: {len(made)} groups more", file=sys.stderr)
        for group in made:
            yield {"source": name, **group}


def write_more(path, clones, debian_path):
    with open(path, "w", encoding="utf-8") as f:
        for group in more(clones, debian_path):
            f.write(json.dumps(group, ensure_ascii=False) + "\n")


def write(path, clones, debian_path, encoder):
    with open(path, "w", encoding="utf-8") as f:
        for group in groups(clones, debian_path, encoder):
            f.write(json.dumps(group, ensure_ascii=False) + "\n")
