"""The tiny models: small enough for fast tests, different enough to matter."""


def config(hidden, heads, layers, labels=1, **changes):
    """A config.json as Hugging Face writes it, as a dict."""
    out = {
        "architectures": ["BertForSequenceClassification"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "id2label": {str(n): f"LABEL_{n}" for n in range(labels)},
        "initializer_range": 0.02,
        "intermediate_size": 4 * hidden,
        "label2id": {f"LABEL_{n}": n for n in range(labels)},
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "model_type": "bert",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": 997,
    }
    out.update(changes)
    return out


# name -> (config, seed). Head sizes 32, 64, 26, 64, 32, 32, 32. The last one's
# epsilon is large enough to show in the logits.
MODELS = {
    "h64-head32-l2": (config(64, 2, 2), 1),
    "h128-head64-l2": (config(128, 2, 2, intermediate_size=320), 2),
    "h312-head26-l4": (config(312, 12, 4, intermediate_size=1200, max_position_embeddings=512), 3),
    "h768-head64-l1": (config(768, 12, 1, max_position_embeddings=256), 4),
    "h64-eps1e-5-labels3": (config(64, 2, 1, labels=3, layer_norm_eps=1e-5), 5),
    "h128-gelu-new": (config(128, 4, 2, hidden_act="gelu_new", max_position_embeddings=200), 6),
    "h64-relu-eps1e-2": (config(64, 2, 2, hidden_act="relu", layer_norm_eps=1e-2), 7),
}
