"""What every subject in Python shares: lines of JSON in, lines of JSON out.

A subject is a process of its own. It reads {"op": ...} and answers one line:

    score     {"pairs": FILE}               -> {"seconds": S, "logits": [...]}
    requests  {"pairs": FILE}               -> {"seconds": [S, ...]}, one of each request in FILE
    batch     {"size": N}                   -> {}, pairs of a batch from now on

FILE is a list of [query, document], or of such lists. Time is from texts to
logits, tokenising included, on the subject's own clock; reading FILE is not in it.
"""

import functools
import json
import os
import sys
import time

import numpy as np
import processes
import tokenizers

CORES = int(processes.CORES)


@functools.cache
def read(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def setting(folder, file, name):
    with open(os.path.join(folder, file), encoding="utf-8") as f:
        return json.load(f)[name]


def maximum(folder):
    """The tokens of the longest pair."""
    return setting(folder, "tokenizer_config.json", "model_max_length")


def timed(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def serve(subject):
    """Answers the driver; or, given --once QUERY DOCUMENT, scores that pair alone."""
    if "--once" in sys.argv:
        at = sys.argv.index("--once")
        print(float(subject.score([sys.argv[at + 1 : at + 3]])[0]), flush=True)
        return
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "batch":
            subject.batch = request["size"]
            answer({})
        elif request["op"] == "score":
            seconds, logits = timed(subject.score, read(request["pairs"]))
            answer({"seconds": seconds, "logits": [float(x) for x in logits]})
        elif request["op"] == "requests":
            answer({"seconds": [timed(subject.score, pairs)[0] for pairs in read(request["pairs"])]})
        else:
            raise SystemExit(f"peers: a request {request['op']!r}, which no subject knows")


def answer(value):
    print(json.dumps(value), flush=True)


class Sorted:
    """A peer that scores batches of pairs of like lengths, longest first."""

    batch = 32

    def __init__(self, folder):
        self.tokenizer = tokenizers.Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(maximum(folder), strategy="longest_first")
        self.pad = setting(folder, "config.json", "pad_token_id")

    def score(self, pairs):
        encoded = self.tokenizer.encode_batch([tuple(pair) for pair in pairs])
        order = sorted(range(len(encoded)), key=lambda n: -len(encoded[n].ids))
        logits = np.empty(len(encoded), np.float32)
        for at in range(0, len(order), self.batch):
            part = order[at : at + self.batch]
            logits[part] = self.forward(*padded([encoded[n] for n in part], self.pad))
        return logits

    def forward(self, ids, mask, types):
        """The logits of one padded batch, of int64."""
        raise NotImplementedError


def inputs(names, ids, mask, types):
    """The arguments of an exported graph: not every model has type ids."""
    every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: every[name] for name in names}


def padded(encoded, pad):
    shape = (len(encoded), max(len(e.ids) for e in encoded))
    ids, mask, types = (np.full(shape, value, np.int64) for value in (pad, 0, 0))
    for row, e in enumerate(encoded):
        length = len(e.ids)
        ids[row, :length], mask[row, :length], types[row, :length] = e.ids, 1, e.type_ids
    return ids, mask, types
