"""engine/testdata/activations.json.gz: what the modules of two tiny models put out for a pair."""

import bert
import common
import tensors
import tiny
import tiny_models

MODELS = ("h64-head32-l2", "h128-gelu-new")


def named(model):
    """The modules to record, by their names without "bert."."""
    for name, module in model.named_modules():
        name = name.removeprefix("bert.")
        layer, _, part = name.removeprefix("encoder.layer.").partition(".")
        if (
            name.startswith("encoder.layer.")
            and part in ("", "attention", "attention.self")
            or name in ("embeddings", "pooler", "classifier")
        ):
            yield name, module


def record(model, pair):
    """The output of every module for the pair. Of the last layer only [CLS] counts."""
    out = {}
    last = f"encoder.layer.{model.config.num_hidden_layers - 1}"

    def hook(name):
        def keep(_module, _inputs, output):
            values = output[0] if isinstance(output, tuple) else output
            values = values.reshape(-1, values.shape[-1])
            out[name] = values[:1] if name.startswith(last) else values

        return keep

    hooks = [module.register_forward_hook(hook(name)) for name, module in named(model)]
    bert.logits(model, [pair])
    for h in hooks:
        h.remove()
    return {name: {"shape": list(values.shape), "values": common.numbers(values)} for name, values in out.items()}


def golden(name):
    config, seed = tiny_models.MODELS[name]
    pair = tiny.make_pairs(config, seed, 32)[5]
    model = bert.build(config, tensors.tensors(config, seed))
    return {
        "name": name,
        "config": config,
        "seed": seed,
        "sha256": tensors.sha256(config, seed),
        "pairs": [pair],
        "activations": record(model, pair),
    }


def make(_):
    made_with = common.made_with("torch", "transformers", "numpy")
    models = [golden(name) for name in MODELS]
    common.write_json(common.ENGINE / "activations.json.gz", {"made_with": made_with, "models": models})
