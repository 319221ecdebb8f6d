"""sentence-transformers' CrossEncoder as its page shows it: peer_sentence_transformers.py FOLDER."""

import sys

import protocol
import sentence_transformers
import torch


class Peer:
    batch = 32  # its default; predict sorts by length itself

    def __init__(self, folder):
        torch.set_num_threads(protocol.CORES)
        self.model = sentence_transformers.CrossEncoder(folder, device="cpu", max_length=protocol.maximum(folder))

    def score(self, pairs):
        return self.model.predict(
            [tuple(pair) for pair in pairs], batch_size=self.batch, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )


protocol.serve(Peer(sys.argv[1]))
