"""Trains the vocabularies engine/testdata/tokenizers/trained-*.json.gz from texts in a folder.

    python3 scripts/goldens/token_train.py FOLDER

FOLDER has plain texts in several languages. The committed vocabularies were trained on the manual
pages of Debian 12 in eight languages and engine/testdata/languages.json; `python scripts/goldens
token_kinds` only reads them. SentencePiece makes the Unigram vocabulary, so that its table of the
normalizer (nmt_nfkc) and its scores have the form of real models.
"""

import base64
import json
import pathlib
import struct
import sys
import tempfile

sys.dont_write_bytecode = True

import common
import sentencepiece
import tokenizers

PIECES, WORDS = 8000, 6000
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def fields(data):
    """(number, value) of the fields of a protocol buffer."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        size = {0: None, 1: 8, 2: -1, 5: 4}[key & 7]
        if size is None:
            yield key >> 3, varint()
            continue
        if size < 0:
            size = varint()
        yield key >> 3, data[at : at + size]
        at += size


def sentence_piece(texts):
    """The pieces [[text, score]] and the table of a trained SentencePiece model, as XLM-RoBERTa orders them."""
    with tempfile.TemporaryDirectory() as scratch:
        prefix = pathlib.Path(scratch) / "trained"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(prefix),
            vocab_size=PIECES,
            model_type="unigram",
            character_coverage=0.9995,
            normalization_rule_name="nmt_nfkc",
            num_threads=1,
            input_sentence_size=120000,
            shuffle_input_sentence=True,
            minloglevel=1,
        )
        model = prefix.with_suffix(".model").read_bytes()
    pieces, table = [], b""
    for number, value in fields(model):
        if number == 1:
            piece = dict(fields(value))
            pieces.append([piece[1].decode(), struct.unpack("<f", piece[2])[0]])
        if number == 3:
            table = dict(fields(value))[2]
    vocab = [[t, 0.0] for t in SPECIAL] + pieces[3:] + [["<mask>", 0.0]]
    return {"charsmap": base64.b64encode(table).decode(), "vocab": vocab}


def byte_pairs(texts):
    """The tokens and merges of a trained byte-level BPE, as RoBERTa orders them."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[*SPECIAL, "<mask>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": model["merges"]}


def main():
    texts = [path.read_text(errors="ignore") for path in sorted(pathlib.Path(sys.argv[1]).iterdir())]
    texts += [text for _, text in json.loads((common.ENGINE / "languages.json").read_text())] * 20
    lines = [line for text in texts for line in text.splitlines() if 0 < len(line) < 4000]
    for kind, build in (("unigram", sentence_piece), ("bpe", byte_pairs)):
        common.write_gzip(common.ENGINE / "tokenizers" / f"trained-{kind}.json.gz", common.compact(build(lines)) + "\n")


if __name__ == "__main__":
    main()
