"""Collections that nothing is trained on: three that the figures are of, and two for early stopping.

Each is written as BEIR has it (corpus.jsonl, queries.jsonl, qrels.tsv) with BM25's first texts in bm25.run.
"""

import json
import random
import re
import xml.etree.ElementTree as etree

import bm25
import sources

DEPTH = 20
HOW_TO = re.compile(r"\b(how|best way|can i|should i|do i)\b", re.I)
DEBIAN_QUERIES = 300
DEBIAN_NEIGHBOURS = 29


def wikiqa(clones):
    """Questions to sentences of Wikipedia: test questions that have an answer, all test sentences."""
    corpus, queries, relevant = {}, {}, {}
    for line in clones.read("kartikbhalala/temp", "WikiQA-test.tsv").splitlines()[1:]:
        query, question, _, _, sentence, text, label = line.split("\t")
        corpus[sentence] = sources.clean(text)
        if label == "1":
            queries[query] = sources.clean(question)
            relevant.setdefault(query, []).append(sentence)
    return corpus, queries, relevant


def smart(text):
    """Records of the SMART collections' files: {field: text}."""
    for record in re.split(r"^\.I ", text, flags=re.M)[1:]:
        parts = re.split(r"^\.([A-Z])\s*$", record, flags=re.M)
        yield {"I": parts[0].strip(), **{k: sources.clean(v) for k, v in zip(parts[1::2], parts[2::2])}}


def cranfield(clones):
    """Questions to abstracts on aerodynamics; judgments number the questions by their place in the file."""
    repository = "aldiindrawan12/information-retrieval"
    corpus = {r["I"]: r.get("W", "") for r in smart(clones.read(repository, "cran.all.1400"))}
    queries = {str(n): r["W"] for n, r in enumerate(smart(clones.read(repository, "cran.qry")), 1)}
    relevant = {}
    for line in clones.read(repository, "cranqrel").splitlines():
        query, document, grade = line.split()[:3]
        if 1 <= int(grade) <= 4:
            relevant.setdefault(query, []).append(document)
    return {d: t for d, t in corpus.items() if t}, queries, relevant


def cisi(clones):
    """Questions to abstracts on libraries and information."""
    repository = "PsychoProg/tf-idf"
    corpus = {r["I"]: f"{r.get('T', '')} {r.get('W', '')}".strip() for r in smart(clones.read(repository, "CISI.ALL"))}
    queries = {r["I"]: r["W"] for r in smart(clones.read(repository, "CISI.QRY"))}
    relevant = {}
    for line in clones.read(repository, "CISI.REL").splitlines():
        query, document = line.split()[:2]
        relevant.setdefault(query, []).append(document)
    return corpus, queries, relevant


def stack_exchange(clones, repositories, wanted=None):
    """Titles of questions to answers, both from the sites' dumps of posts."""
    corpus, queries, relevant = {}, {}, {}
    for repository in repositories:
        for row in etree.fromstring(clones.read(repository, "Posts.xml")):
            post = f"{repository.split('/')[0]}-{row.get('Id')}"
            if row.get("PostTypeId") == "1" and (wanted is None or wanted.search(row.get("Title"))):
                queries[post] = sources.clean(row.get("Title"))
            elif row.get("PostTypeId") == "2":
                corpus[post] = sources.without_tags(row.get("Body"))
                relevant.setdefault(f"{repository.split('/')[0]}-{row.get('ParentId')}", []).append(post)
    return {d: t for d, t in corpus.items() if t}, queries, relevant


def how_to(clones):
    """Questions of how to do something, on coffee and on beer, to all answers of both sites."""
    return stack_exchange(clones, ["Yoav-Shafir/Elasticsearch-Coffee-Search-Engine-JS", "kevswanberg/beer_tentrr"], HOW_TO)


def history(clones):
    return stack_exchange(clones, ["GonzaloHirsch/TP-XML"])


TEST = {"wikiqa": wikiqa, "cranfield": cranfield, "how-to": how_to}
DEVELOPMENT = {"cisi": cisi, "history": history}


def write(out, name, corpus, queries, relevant, run=None):
    """A folder in BEIR's layout; run is BM25's unless it is given as {query: documents}."""
    relevant = {q: [d for d in found if d in corpus] for q, found in relevant.items() if q in queries}
    relevant = {q: found for q, found in relevant.items() if found}
    queries = {q: queries[q] for q in sorted(relevant)}
    identifiers = list(corpus)
    if run is None:
        index = bm25.Index(corpus.values())
        run = {q: [(identifiers[n], score) for n, score in index.top(text, DEPTH)] for q, text in queries.items()}
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)

    def lines(file, rows):
        (folder / file).write_text("".join(row + "\n" for row in rows), encoding="utf-8")

    lines("corpus.jsonl", (json.dumps({"_id": d, "title": "", "text": t}, ensure_ascii=False) for d, t in corpus.items()))
    lines("queries.jsonl", (json.dumps({"_id": q, "text": t}, ensure_ascii=False) for q, t in queries.items()))
    lines("qrels.tsv", ["query-id\tcorpus-id\tscore", *(f"{q}\t{d}\t1" for q in queries for d in relevant[q])])
    lines("bm25.run", (f"{q} Q0 {d} {n} {s:.6f} bm25" for q, found in run.items() for n, (d, s) in enumerate(found, 1)))
    print(f"{name}: {len(corpus)} texts, {len(queries)} questions")


def debian(out, path, encoder):
    """Held-out packages: the short description to its long one among the 29 nearest of other families.

    The 30 are in the order of the encoder's cosine.
    """
    rows, held = sources.debian(path)
    vectors = encoder.embed([r["long"] for r in rows])
    chosen = random.Random(sources.SEED).sample(sorted(held), DEBIAN_QUERIES)
    corpus, run = {}, {}
    questions = encoder.embed([rows[n]["short"] for n in chosen])
    for n, question in zip(chosen, questions):
        family = rows[n]["package"].split("-")[0]
        cosines = vectors @ question
        others = [int(m) for m in (-cosines).argsort()[:200] if m != n and rows[m]["package"].split("-")[0] != family]
        best = sorted([n, *others[:DEBIAN_NEIGHBOURS]], key=lambda m: -cosines[m])
        corpus.update((rows[m]["package"], rows[m]["long"]) for m in best)
        run[rows[n]["package"]] = [(rows[m]["package"], float(cosines[m])) for m in best]
    queries = {rows[n]["package"]: rows[n]["short"] for n in chosen}
    write(out, "debian", corpus, queries, {q: [q] for q in queries}, run)


def collect(out, clones):
    for name, make in {**TEST, **DEVELOPMENT}.items():
        write(out, name, *make(clones))
