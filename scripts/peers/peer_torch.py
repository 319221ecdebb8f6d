"""PyTorch and transformers, pairs sorted by length: peer_torch.py FOLDER DTYPE [DEVICE]."""

import sys

import protocol
import torch
import transformers


class Peer(protocol.Sorted):
    def __init__(self, folder, dtype, device="cpu"):
        super().__init__(folder)
        torch.set_num_threads(protocol.CORES)
        self.model = transformers.BertForSequenceClassification.from_pretrained(
            folder, dtype=getattr(torch, dtype), attn_implementation="sdpa"
        ).eval()
        self.device = device
        self.model.to(device)

    def forward(self, ids, mask, types):
        with torch.inference_mode():
            ids, mask, types = (torch.from_numpy(x).to(self.device) for x in (ids, mask, types))
            out = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)
            return out.logits[:, 0].float().cpu().numpy()


arguments = sys.argv[1 : sys.argv.index("--once")] if "--once" in sys.argv else sys.argv[1:]
protocol.serve(Peer(*arguments))
