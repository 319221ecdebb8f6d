"""engine/testdata/family.json.gz: models of exactly the shapes of the ms-marco cross-encoders.

Their configs, with weights that follow from a seed: the real ones cannot be shipped.
"""

import common
import tiny
import tiny_models

PAIRS = 12


def ms_marco(hidden, heads, layers):
    """config.json of cross-encoder/ms-marco-*-v2, without its labels of origin and version."""
    activation = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.1"}
    return tiny_models.config(
        hidden,
        heads,
        layers,
        vocab_size=30522,
        max_position_embeddings=512,
        classifier_dropout=None,
        gradient_checkpointing=False,
        sentence_transformers=activation,
        use_cache=True,
    )


MODELS = {
    "ms-marco-TinyBERT-L-2": (ms_marco(128, 2, 2), 101),
    "ms-marco-MiniLM-L-2": (ms_marco(384, 12, 2), 102),
    "ms-marco-MiniLM-L-4": (ms_marco(384, 12, 4), 103),
    "ms-marco-MiniLM-L-6": (ms_marco(384, 12, 6), 104),
    "ms-marco-MiniLM-L-12": (ms_marco(384, 12, 12), 105),
}


def make(_):
    models = [tiny.golden(name, *spec, count=PAIRS, dtypes=()) for name, spec in MODELS.items()]
    made_with = common.made_with("torch", "transformers", "numpy")
    common.write_json(common.ENGINE / "family.json.gz", {"made_with": made_with, "models": models})
