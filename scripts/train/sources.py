"""Texts that the adapter of builtin is trained on: questions with the text that answers them.

Every source is a public repository at one commit, read from a clone without a work tree or with one:

    git clone --no-checkout https://github.com/OWNER/NAME DATA/OWNER+NAME

The descriptions of Debian packages are a file of lines {"package", "short", "long"}: see README.md.
"""

import gzip
import hashlib
import html
import io
import json
import random
import re
import subprocess
import tarfile
import xml.etree.ElementTree as etree

SEED = 20261130
COMMITS = {
    "abachaa/MedQuAD": "577bd37b96c02d1833b2c9eed2de9f96964e96cb",
    "allenai/scitldr": "5ccad9c00a60ad75c9e04abf7f27d0f53f983b20",
    "aldiindrawan12/information-retrieval": "653feecf6536a021529db44f4aa44593828679f6",
    "bigai-nlco/RouterLens": "1c18cc756be028a7e55a51fd7b51a2b211baa0c9",
    "deepset-ai/COVID-QA": "fb2eb5e249618457e5359806601086c635c8eb8f",
    "google-research-datasets/QED": "2492920337122918bbfc7d12c1268b9af796c6cf",
    "GonzaloHirsch/TP-XML": "a11ea4a889ae684a720c0536892209eaba40a845",
    "kartikbhalala/temp": "17e04f3f31d8926a3cddf8a649d1efb26781919a",
    "kevswanberg/beer_tentrr": "9573647bff33c61bdce2f07a9000a4098fd3074d",
    "PsychoProg/tf-idf": "beee251dd1356ee4ffb453ac60cf8f9112840f5d",
    "pubmedqa/pubmedqa": "1cbae8e92f72f20c8d3747cbb3bf5bc53554d997",
    "tldr-pages/tldr": "08e345f42639f67d99282813247ac670dc6e87cb",
    "xinyadu/nqg": "8211129a3e97d29f3e4563e35f65e4a892f70ef0",
    "Yoav-Shafir/Elasticsearch-Coffee-Search-Engine-JS": "97e93c92aaa379fed6d0ee9be94b2024371d6aba",
}
DEBIAN_SHA256 = "aa717a656b6dd5a1389206018fa68f695ed0f2a7dac7ab1177730c1c113a666a"
# Of the packages: what is never trained on, for evaluation.
HELD_OUT = 1000


def clean(text):
    return re.sub(r"\s+", " ", text).strip()


def without_tags(text):
    return clean(html.unescape(re.sub(r"<[^>]+>", " ", text)))


class Clones:
    """Files of the pinned commits, from clones in one folder."""

    def __init__(self, folder):
        self.folder = folder

    def _git(self, repository, *arguments):
        clone = self.folder / repository.replace("/", "+")
        if not clone.exists():
            raise SystemExit(f"{clone} is missing: git clone --no-checkout https://github.com/{repository} {clone}")
        return subprocess.run(["git", "-C", str(clone), *arguments], check=True, capture_output=True).stdout

    def read(self, repository, path):
        return self._git(repository, "show", f"{COMMITS[repository]}:{path}").decode("utf-8-sig")

    def folder_files(self, repository, path, suffix):
        """(name, text) of the files in a folder, in the order of their names."""
        archive = self._git(repository, "archive", COMMITS[repository], path)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in sorted(tar.getmembers(), key=lambda m: m.name):
                if member.name.endswith(suffix) and member.isfile():
                    yield member.name, tar.extractfile(member).read().decode("utf-8")


def debian(path):
    """Packages for training and packages held out, from the file of descriptions."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != DEBIAN_SHA256:
        raise SystemExit(f"{path}: SHA-256 {found}, expected {DEBIAN_SHA256}")
    rows = [json.loads(line) for line in gzip.decompress(data).decode("utf-8").splitlines()]
    held = set(random.Random(SEED).sample(range(len(rows)), HELD_OUT))
    return rows, held


def debian_pairs(path):
    """(query, document, group): short descriptions, and for some a sentence out of the long one."""
    rows, held = debian(path)
    draw = random.Random(SEED)
    for number, row in enumerate(rows):
        if number in held:
            continue
        sentences = re.split(r"(?<=[.!?]) +", row["long"])
        if len(sentences) > 2 and draw.random() < 0.3:
            taken = draw.randrange(len(sentences))
            yield sentences[taken], " ".join(s for n, s in enumerate(sentences) if n != taken), row["package"].split("-")[0]
        else:
            yield row["short"], row["long"], row["package"].split("-")[0]


def squad_sentences(clones):
    """Yields questions of SQuAD with the sentence that holds the answer, in lower case."""
    for part in ("dev", "test"):
        questions = clones.read("xinyadu/nqg", f"data/processed/tgt-{part}.txt").splitlines()
        sentences = clones.read("xinyadu/nqg", f"data/processed/src-{part}.txt").splitlines()
        for question, sentence in zip(questions, sentences):
            yield clean(question), clean(sentence), None


def squad_paragraphs(clones):
    for row in json.loads(clones.read("bigai-nlco/RouterLens", "data/squad/dev.json")):
        yield clean(row["question"]), clean(row["context"]), None


def natural_questions(clones):
    for line in clones.read("google-research-datasets/QED", "qed-dev.jsonlines").splitlines():
        row = json.loads(line)
        yield clean(row["question_text"]), clean(row["paragraph_text"]), row["title_text"]


def medquad(clones):
    """Yields questions on illnesses with their answers."""
    for folder in ("1_CancerGov_QA", "2_GARD_QA", "3_GHR_QA", "4_MPlus_Health_Topics_QA", "5_NIDDK_QA", "6_NINDS_QA"):
        for _, text in clones.folder_files("abachaa/MedQuAD", folder, ".xml"):
            root = etree.fromstring(text)
            for pair in root.iter("QAPair"):
                question, answer = (clean(pair.findtext(tag) or "") for tag in ("Question", "Answer"))
                if question and len(answer) > 40:
                    yield question.replace(" ?", "?"), answer, None


def pubmedqa(clones):
    for row in json.loads(clones.read("pubmedqa/pubmedqa", "data/ori_pqal.json")).values():
        yield clean(row["QUESTION"]), clean(" ".join(row["CONTEXTS"])), None


def scitldr(clones):
    """Papers on machine learning: the title, or one line of summary, to the abstract."""
    draw = random.Random(SEED)
    for part in ("train", "dev", "test"):
        for line in clones.read("allenai/scitldr", f"SciTLDR-Data/SciTLDR-A/{part}.jsonl").splitlines():
            row = json.loads(line)
            abstract = clean(" ".join(row["source"]))
            yield (clean(row["title"]) if draw.random() < 0.5 and row.get("title") else clean(row["target"][0])), abstract, None


def covid(clones):
    """Questions on articles under CC BY, with the paragraph that holds the answer."""
    for article in json.loads(clones.read("deepset-ai/COVID-QA", "data/question-answering/200423_covidQA.json"))["data"]:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            if not re.search(r"^License: ?cc-by$", text[:2000], re.M | re.I):
                continue
            for question in paragraph["qas"]:
                start = question["answers"][0]["answer_start"]
                begin = text.rfind("\n\n", 0, start) + 1
                end = text.find("\n\n", start)
                yield clean(question["question"]), clean(text[begin : end if end > 0 else len(text)])[:1500], None


def tldr(clones):
    """Yields what a command line does, with the page of the command without that line; the group is the command."""
    draw = random.Random(SEED)
    for folder in ("pages/common", "pages/linux"):
        for name, page in clones.folder_files("tldr-pages/tldr", folder, ".md"):
            title = page.split("\n", 1)[0].lstrip("# ")
            about = clean(" ".join(re.findall(r"^> (?!More info|See also)(.*)$", page, re.M)))
            examples = re.findall(r"^- (.*):\n\n`(.*)`$", page, re.M)
            if len(examples) < 2:
                continue
            examples = [(re.sub(r"\[(\w+)\]", r"\1", what), re.sub(r"[{}]{2}", "", how)) for what, how in examples]
            what, how = draw.choice(examples)
            rest = " ".join(f"{w}: {h}." for w, h in examples if w != what)
            if draw.random() < 0.5:
                yield what, f"{title}: {about} {how} {rest}", name
            else:
                yield what, f"{title}: {how} {about}", name


# Name: pairs, and how many questions of it are used.
def all_sources(clones, debian_path):
    return {
        "squad-sentences": (squad_sentences(clones), 900),
        "squad-paragraphs": (squad_paragraphs(clones), 700),
        "natural-questions": (natural_questions(clones), 600),
        "medquad": (medquad(clones), 500),
        "pubmedqa": (pubmedqa(clones), 400),
        "scitldr": (scitldr(clones), 600),
        "covid-qa": (covid(clones), 200),
        "tldr": (tldr(clones), 700),
        "debian": (debian_pairs(debian_path), 600),
    }
