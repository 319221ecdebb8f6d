"""The models that are compared. A row is data: a folder, its subjects, its pairs, its goals."""

import dataclasses
import typing

import pairs
import subjects


@dataclasses.dataclass
class Goal:
    """A bound of mlxrank's pairs/s over a peer's, or over the fastest peer's."""

    label: str  # of the set of pairs
    bound: float
    peer: str = ""


@dataclasses.dataclass
class Row:
    title: str
    folder: str  # in WORK
    subjects: typing.Callable  # (work, folder) -> the subjects
    sets: typing.Callable  # (all pairs, --pairs, maximum length) -> {label: pairs}
    goals: tuple = ()
    sizes: tuple = (8, 16, 32, 64)  # batch sizes to choose from
    requests: int = 0  # of 20 documents, in a round
    agree_on_all: bool = False  # compare scores on all pairs, not on the first set's


BUILTIN = Row("the builtin model", "model", subjects.subjects, pairs.all_lengths, requests=12, agree_on_all=True)

# encoders.py makes their folders.
ENCODERS = [
    Row(
        "ModernBERT, ettin-reranker-17m's shape, at most 512 tokens",
        "ettin-17m",
        subjects.encoder,
        pairs.mixed,
        goals=(Goal("mixed", 1.25),),
    ),
    Row(
        "XLM-RoBERTa, mMiniLMv2-L12-H384's shape, at most 512 tokens",
        "mminilm-l12",
        subjects.encoder,
        pairs.mixed,
        goals=(Goal("mixed", 1.25),),
    ),
    Row(
        "ModernBERT, ettin-reranker-17m's shape, 2,048 tokens",
        "ettin-17m-2048",
        subjects.encoder,
        pairs.full,
        goals=(Goal("full", 2, "sentence-transformers"),),
        sizes=(1, 2, 4, 8),
    ),
]
