"""nDCG@10 and RR@10 of the candidates of a collection as they are, and in a model's order."""

import json
import math
import random

import sources
import tokenizers
import torch
import train

TOKENS = 512
BATCH = 32


def load(folder, limit=None):
    """Questions with their texts of bm25.run in order: {query: (text, [(document, text)], relevant)}."""

    def lines(name):
        with open(folder / name, encoding="utf-8") as f:
            yield from map(json.loads, f)

    corpus = {d["_id"]: f"{d['title']} {d['text']}".strip() for d in lines("corpus.jsonl")}
    queries = {q["_id"]: q["text"] for q in lines("queries.jsonl")}
    if limit and limit < len(queries):
        kept = set(random.Random(sources.SEED).sample(sorted(queries), limit))
        queries = {q: t for q, t in queries.items() if q in kept}
    relevant = {}
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            relevant.setdefault(query, set()).add(document)
    found = {q: (t, [], relevant[q]) for q, t in queries.items() if q in relevant}
    for line in (folder / "bm25.run").read_text().splitlines():
        query, _, document = line.split()[:3]
        if query in found:
            found[query][1].append((document, corpus[document]))
    return found


def measures(ranked, relevant):
    """nDCG@10 with gain 1 and discount log2(rank + 1), and RR@10."""
    hits = [d in relevant for d in ranked[:10]]
    gain = sum(1 / math.log2(n + 2) for n, hit in enumerate(hits) if hit)
    ideal = sum(1 / math.log2(n + 2) for n in range(min(10, len(relevant))))
    return gain / ideal, next((1 / (n + 1) for n, hit in enumerate(hits) if hit), 0.0)


@torch.no_grad()
def score(model, tokenizer, pairs, precise):
    model.eval()
    encoded = [(e.ids, e.type_ids) for e in tokenizer.encode_batch(pairs)]
    order = sorted(range(len(encoded)), key=lambda n: len(encoded[n][0]))
    scores = [0.0] * len(encoded)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise):
            found = model(**train.pad([encoded[n] for n in chosen])).logits[:, 0].float()
        for n, value in zip(chosen, found.tolist()):
            scores[n] = value
    return scores


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def report(folder, model, base, depth=20, limit=None, precise=True):
    """(questions, nDCG@10 and RR@10 before, nDCG@10 and RR@10 after); without a model, before alone."""
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOKENS, strategy="longest_first")
    rows = load(folder, limit)
    candidates = {q: found[:depth] for q, (_, found, _) in rows.items()}
    before = [measures([d for d, _ in candidates[q]], rows[q][2]) for q in rows]
    result = {"questions": len(rows), "before": [mean(v) for v in zip(*before)]}
    if model is not None:
        flat = [(q, d, t) for q in rows for d, t in candidates[q]]
        scores = score(model, tokenizer, [(rows[q][0], t) for q, _, t in flat], precise)
        ranked = {q: [] for q in rows}
        for (q, d, _), value in zip(flat, scores):
            ranked[q].append((-value, d))
        after = [measures([d for _, d in sorted(ranked[q])], rows[q][2]) for q in rows]
        result["after"] = [mean(v) for v in zip(*after)]
    return result
