"""The models of encoders.py: tiny ones with every option that matters, and the shapes of real rerankers.

A model is {config, lengths or count and longest} and, if sentence-transformers saves
it, modules: those behind its Transformer, as (class, arguments). rewrite changes files
afterwards, and pads puts pad tokens into pairs.
"""

PAD = 1
VOCABULARY = 997  # of real shapes too: embeddings would be most of their weights


def labelled(config, labels):
    """config with labels, as transformers writes them; an encoder without a head has none."""
    if labels:
        config["id2label"] = {str(n): f"LABEL_{n}" for n in range(labels)}
        config["label2id"] = {f"LABEL_{n}": n for n in range(labels)}
    return config


def roberta(family, hidden, heads, layers, labels=1, **changes):
    """config.json of a RoBERTa: family is Roberta, XLMRoberta or Camembert."""
    config = {
        "architectures": [family + ("ForSequenceClassification" if labels else "Model")],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "classifier_dropout": None,
        "eos_token_id": 2,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 4 * hidden,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 130,
        "model_type": {"Roberta": "roberta", "XLMRoberta": "xlm-roberta", "Camembert": "camembert"}[family],
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "output_past": True,
        "pad_token_id": PAD,
        "position_embedding_type": "absolute",
        "type_vocab_size": 1,
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }
    return labelled({**config, **changes}, labels)


def modernbert(hidden, heads, layers, labels=1, **changes):
    """config.json of a ModernBERT as the hub has them, which transformers 4 wrote."""
    config = {
        "architectures": ["ModernBertForSequenceClassification" if labels else "ModernBertModel"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "classifier_dropout": 0.0,
        "classifier_pooling": "cls",
        "cls_token_id": 2,
        "decoder_bias": True,
        "deterministic_flash_attn": False,
        "embedding_dropout": 0.0,
        "eos_token_id": 3,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "gradient_checkpointing": False,
        "hidden_activation": "gelu",
        "hidden_size": hidden,
        "initializer_cutoff_factor": 2.0,
        "initializer_range": 0.02,
        "intermediate_size": 3 * hidden // 2,
        "layer_norm_eps": 1e-05,
        "local_attention": 16,
        "local_rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "mlp_dropout": 0.0,
        "model_type": "modernbert",
        "norm_bias": False,
        "norm_eps": 1e-05,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": PAD,
        "position_embedding_type": "absolute",
        "sep_token_id": 3,
        "tie_word_embeddings": True,
        "vocab_size": VOCABULARY,
    }
    return labelled({**config, **changes}, labels)


def without(config, *names):
    return {name: value for name, value in config.items() if name not in names}


def distilbert(hidden, heads, layers, labels=1, **changes):
    """config.json of a DistilBERT, whose names of sizes are its own."""
    config = {
        "activation": "gelu",
        "architectures": ["DistilBertForSequenceClassification" if labels else "DistilBertModel"],
        "attention_dropout": 0.1,
        "dim": hidden,
        "dropout": 0.1,
        "hidden_dim": 4 * hidden,
        "initializer_range": 0.02,
        "max_position_embeddings": 128,
        "model_type": "distilbert",
        "n_heads": heads,
        "n_layers": layers,
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
        "vocab_size": VOCABULARY,
    }
    return labelled({**config, **changes}, labels)


def electra(embedding, hidden, heads, layers, labels=1, **changes):
    """config.json of an ELECTRA."""
    config = {
        "architectures": ["ElectraForSequenceClassification" if labels else "ElectraModel"],
        "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None,
        "embedding_size": embedding,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": 4 * hidden,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "model_type": "electra",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "summary_activation": "gelu",
        "summary_last_dropout": 0.1,
        "summary_type": "first",
        "summary_use_proj": True,
        "type_vocab_size": 2,
        "vocab_size": VOCABULARY,
    }
    return labelled({**config, **changes}, labels)


def bert(hidden, heads, layers, labels=1, **changes):
    """config.json of a BERT, for stacks of modules; tiny_models has the classifiers."""
    config = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "model_type": "bert",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": VOCABULARY,
    }
    return labelled({**config, **changes}, labels)


def pooling(hidden, *modes):
    return ("Pooling", {"embedding_dimension": hidden, "pooling_mode": modes[0] if len(modes) == 1 else modes})


def dense(inputs, outputs, activation="Identity", **options):
    return ("Dense", {"in_features": inputs, "out_features": outputs, "activation_function": activation, **options})


def last(inputs, labels=1):
    """The module that makes the scores."""
    return dense(inputs, labels, module_output_name="scores")


def ettin_head(hidden):
    """The modules of ettin-reranker behind its encoder."""
    return [pooling(hidden, "cls"), dense(hidden, hidden, "GELU", bias=False), ("LayerNorm", {"dimension": hidden}), last(hidden)]


# The spelling of sentence-transformers 5 and earlier, file by file.
OLD_NAMES = {
    "modules.json": lambda modules: [{**m, "type": "sentence_transformers.models." + m["type"].rsplit(".", 1)[1]} for m in modules],
    "1_Pooling/config.json": lambda config: {
        "word_embedding_dimension": config["embedding_dimension"],
        **{
            f"pooling_mode_{key}": config["pooling_mode"] == mode
            for key, mode in {
                "cls_token": "cls",
                "mean_tokens": "mean",
                "max_tokens": "max",
                "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
                "weightedmean_tokens": "weightedmean",
                "lasttoken": "lasttoken",
            }.items()
        },
        "include_prompt": True,
    },
}

BIASES = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}


def rope(full, sliding):
    """rope_parameters as transformers 5 writes them."""
    return {
        "full_attention": {"rope_theta": full, "rope_type": "default"},
        "sliding_attention": {"rope_theta": sliding, "rope_type": "default"},
    }


TINY = {
    "xlm-roberta": {"config": roberta("XLMRoberta", 64, 2, 2), "longest": 128},
    "roberta labels 3": {"config": roberta("Roberta", 128, 2, 2, labels=3, hidden_act="relu", intermediate_size=320), "longest": 128},
    "camembert": {"config": roberta("Camembert", 64, 4, 3, hidden_act="gelu_new"), "longest": 128},
    "xlm-roberta pad 0, two types, eps 1e-2": {
        "config": roberta("XLMRoberta", 96, 3, 2, pad_token_id=0, type_vocab_size=2, layer_norm_eps=1e-2),
        "longest": 129,
    },
    "xlm-roberta saved": {"config": roberta("XLMRoberta", 64, 2, 2), "longest": 128, "modules": []},
    "xlm-roberta, pad tokens in texts": {"config": roberta("XLMRoberta", 64, 2, 2), "longest": 128, "pads": True},
    "modernbert cls": {"config": modernbert(64, 2, 4), "longest": 128},
    "modernbert mean, biases, labels 3": {
        "config": modernbert(128, 2, 5, labels=3, classifier_pooling="mean", classifier_activation="silu", **BIASES),
        "longest": 128,
    },
    "modernbert norm biases": {"config": modernbert(96, 3, 5, norm_bias=True, classifier_activation="tanh"), "longest": 96},
    "modernbert attention biases": {"config": modernbert(64, 2, 3, attention_bias=True, norm_eps=1e-2), "longest": 96},
    "modernbert feed-forward biases, gelu tanh": {
        "config": modernbert(64, 2, 3, mlp_bias=True, hidden_activation="gelu_pytorch_tanh", intermediate_size=80),
        "longest": 96,
    },
    "modernbert of transformers 5": {
        "config": {
            **without(
                modernbert(64, 2, 4, classifier_pooling="mean", hidden_activation="relu"),
                "global_attn_every_n_layers",
                "global_rope_theta",
                "local_rope_theta",
            ),
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "rope_parameters": rope(40000.0, 500.0),
        },
        "longest": 128,
    },
    "modernbert defaults": {
        "config": without(
            modernbert(64, 2, 4),
            *("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", "local_attention", "classifier_pooling"),
            *("classifier_activation", "classifier_bias", "attention_bias", "mlp_bias", "norm_bias", "norm_eps", "hidden_activation"),
        ),
        "longest": 300,
    },
    "modernbert saved": {"config": modernbert(64, 1, 4, local_attention=32), "longest": 128, "modules": []},
    "distilbert": {"config": distilbert(64, 2, 2), "longest": 128},
    "distilbert relu, labels 3": {
        "config": distilbert(96, 3, 3, labels=3, activation="relu", hidden_dim=200, sinusoidal_pos_embds=True),
        "longest": 128,
    },
    "electra small": {"config": electra(32, 64, 2, 2), "longest": 128},
    "electra base, labels 2": {"config": electra(128, 128, 4, 2, labels=2, hidden_act="relu"), "longest": 128},
    "stack of ettin": {"config": modernbert(64, 2, 4, labels=0), "longest": 128, "modules": ettin_head(64)},
    "stack of ettin, old names": {"config": modernbert(64, 2, 4, labels=0), "longest": 96, "modules": ettin_head(64), "rewrite": OLD_NAMES},
    "stack of bert: mean, residual": {
        "config": bert(64, 2, 2, labels=0),
        "longest": 128,
        "modules": [pooling(64, "mean"), dense(64, 64, "Tanh", use_residual=True), last(64)],
    },
    "stack of xlm-roberta: cls, max and mean, labels 3": {
        "config": roberta("XLMRoberta", 64, 2, 2, labels=0),
        "longest": 128,
        "modules": [
            pooling(64, "cls", "max", "mean"),
            dense(192, 80, "ReLU"),
            ("LayerNorm", {"dimension": 80}),
            ("Dropout", {"dropout": 0.2}),
            dense(80, 80, "SiLU", use_residual=True, bias=False),
            last(80, 3),
        ],
    },
    "stack of xlm-roberta: mean, then cls": {
        "config": roberta("XLMRoberta", 64, 2, 2, labels=0),
        "longest": 64,
        "modules": [pooling(64, "mean", "cls"), dense(128, 64, "Tanh"), last(64)],
    },
    "stack of distilbert: weighted mean": {
        "config": distilbert(64, 2, 2, labels=0),
        "longest": 128,
        "modules": [pooling(64, "weightedmean"), dense(64, 48, "Sigmoid"), last(48)],
    },
    "stack of electra: last token": {
        "config": electra(32, 64, 2, 2, labels=0),
        "longest": 128,
        "modules": [pooling(64, "lasttoken"), last(64)],
    },
    "stack of roberta: mean by the root of the length": {
        "config": roberta("Roberta", 64, 2, 2, labels=0),
        "longest": 128,
        "modules": [pooling(64, "mean_sqrt_len_tokens"), ("LayerNorm", {"dimension": 64}), dense(64, 64, "GELU"), last(64, 2)],
    },
}


def ettin(hidden, layers):
    """The encoder of ettin-reranker: both RoPE bases are 160,000."""
    return modernbert(
        hidden,
        hidden // 64,
        layers,
        labels=0,
        local_attention=128,
        local_rope_theta=160000.0,
        max_position_embeddings=7999,
        position_embedding_type="sans_pos",
    )


SHAPES = {
    "mmarco-mMiniLMv2-L12-H384-v1": {
        "config": roberta("XLMRoberta", 384, 12, 12, max_position_embeddings=514),
        "longest": 512,
        "count": 12,
    },
    "bge-reranker-base": {"config": roberta("XLMRoberta", 768, 12, 12, max_position_embeddings=514), "longest": 512, "count": 8},
    "bge-reranker-v2-m3": {"config": roberta("XLMRoberta", 1024, 16, 24, max_position_embeddings=8194), "lengths": [20, 90, 300]},
    "ettin-reranker-17m-v1": {"config": ettin(256, 7), "longest": 512, "count": 12, "modules": ettin_head(256)},
    "ettin-reranker-17m-v1, long": {"config": ettin(256, 7), "lengths": [1000, 1390, 2000], "modules": ettin_head(256)},
    "ettin-reranker-32m-v1": {"config": ettin(384, 10), "longest": 512, "count": 12, "modules": ettin_head(384)},
    "ettin-reranker-68m-v1": {"config": ettin(512, 19), "longest": 512, "count": 8, "modules": ettin_head(512)},
    "ettin-reranker-150m-v1": {"config": ettin(768, 22), "longest": 512, "count": 6, "modules": ettin_head(768)},
    "gte-reranker-modernbert-base": {
        "config": modernbert(768, 12, 22, classifier_pooling="mean", local_attention=128),
        "longest": 512,
        "count": 6,
    },
}
