"""Python MLX, the graph of native/src/unfused_ops.cpp: peer_mlx.py FOLDER [DTYPE DEVICE]."""

import json
import pathlib
import sys

import mlx.core as mx
import numpy as np
import protocol


class Peer(protocol.Sorted):
    def __init__(self, folder, dtype="float32", device="cpu"):
        mx.set_default_device(getattr(mx, device))
        super().__init__(folder)
        folder = pathlib.Path(folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.hidden, self.eps = config["hidden_size"], config["layer_norm_eps"]
        self.w = {name: w.astype(getattr(mx, dtype)) for name, w in mx.load(str(folder / "model.safetensors")).items()}
        for n in range(self.layers):  # one matmul for queries, keys and values
            names = [f"bert.encoder.layer.{n}.attention.self.{part}" for part in ("query", "key", "value")]
            for end in ("weight", "bias"):
                self.w[f"{n}.qkv.{end}"] = mx.concatenate([self.w[f"{name}.{end}"] for name in names])
        mx.eval(self.w)

    def linear(self, name, x, of=slice(None)):
        return mx.addmm(self.w[name + ".bias"][of], x, self.w[name + ".weight"][of].T)

    def norm(self, name, x):
        return mx.fast.layer_norm(x, self.w[name + ".weight"], self.w[name + ".bias"], self.eps)

    def split(self, x, rows):
        return x.reshape(rows, -1, self.heads, self.hidden // self.heads).transpose(0, 2, 1, 3)

    def attend(self, query, key, value, rows, mask):
        query, key, value = (self.split(x, rows) for x in (query, key, value))
        scale = (self.hidden // self.heads) ** -0.5
        out = mx.fast.scaled_dot_product_attention(query, key, value, scale=scale, mask=mask)
        return out.transpose(0, 2, 1, 3).reshape(-1, self.hidden)

    def rest(self, name, attended, x):
        """The layer after attention: output projection and feed-forward."""
        x = self.norm(name + ".attention.output.LayerNorm", self.linear(name + ".attention.output.dense", attended) + x)
        inner = self.linear(name + ".intermediate.dense", x)
        inner = inner * 0.5 * (1 + mx.erf(inner * 0.5**0.5))
        return self.norm(name + ".output.LayerNorm", self.linear(name + ".output.dense", inner) + x)

    def forward(self, ids, mask, types):
        rows, width = ids.shape
        mask = mx.array(mask.astype(bool))[:, None, None, :]
        embeddings = "bert.embeddings."
        x = self.w[embeddings + "word_embeddings.weight"][mx.array(ids)]
        x = x + self.w[embeddings + "token_type_embeddings.weight"][mx.array(types)]
        x = x + self.w[embeddings + "position_embeddings.weight"][:width]
        x = self.norm(embeddings + "LayerNorm", x).reshape(-1, self.hidden)
        for n in range(self.layers - 1):
            qkv = mx.split(self.linear(f"{n}.qkv", x), 3, axis=1)
            x = self.rest(f"bert.encoder.layer.{n}", self.attend(*qkv, rows, mask), x)
            mx.eval(x)
        n, h = self.layers - 1, self.hidden  # the last layer for [CLS] alone
        cls = x.reshape(rows, width, h)[:, 0]
        key, value = mx.split(self.linear(f"{n}.qkv", x, slice(h, 3 * h)), 2, axis=1)
        attended = self.attend(self.linear(f"{n}.qkv", cls, slice(0, h)), key, value, rows, mask)
        cls = self.rest(f"bert.encoder.layer.{n}", attended, cls)
        pooled = mx.tanh(self.linear("bert.pooler.dense", cls))
        return np.array(self.linear("classifier", pooled).astype(mx.float32))[:, 0]


arguments = sys.argv[1 : sys.argv.index("--once")] if "--once" in sys.argv else sys.argv[1:]
protocol.serve(Peer(*arguments))
