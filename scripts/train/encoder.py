"""The trunk as it was published: one vector a text, the mean over its tokens, of length one."""

import hashlib

import numpy as np
import tokenizers
import torch
import transformers

BATCH = 64
TOKENS = 64


class Encoder:
    """Embeds texts, and keeps what it has embedded in a folder."""

    def __init__(self, base, cache):
        self.model = transformers.BertModel.from_pretrained(base, attn_implementation="sdpa", dtype="float32").eval()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(TOKENS)
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def embed(self, texts):
        """A row a text, float32."""
        key = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]
        path = self.cache / f"{key}.npy"
        if not path.exists():
            np.save(path, self._compute(texts))
        return np.load(path)

    @torch.no_grad()
    def _compute(self, texts):
        ids = [e.ids for e in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        rows = np.empty((len(ids), self.model.config.hidden_size), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            width = max(len(ids[n]) for n in chosen)
            inputs = torch.tensor([ids[n] + [0] * (width - len(ids[n])) for n in chosen])
            mask = torch.tensor([[1] * len(ids[n]) + [0] * (width - len(ids[n])) for n in chosen])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                hidden = self.model(input_ids=inputs, attention_mask=mask).last_hidden_state.float()
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            rows[chosen] = torch.nn.functional.normalize(mean, dim=1).numpy()
        return rows
