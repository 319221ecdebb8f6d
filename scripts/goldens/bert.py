"""BertForSequenceClassification with given tensors, and ways to spoil it."""

import contextlib
import warnings

import common  # before torch: it sets the environment
import numpy as np
import torch
import transformers

torch.set_num_threads(1)
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.simplefilter("ignore", FutureWarning)


def build(config, tensors):
    """The model of a config dict and canonical tensors, ready to be evaluated."""
    settings = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**settings, attn_implementation="eager"))
    load(model, tensors)
    return model.eval()


def load(model, tensors, partial=False):
    """Replaces the parameters of model by tensors: every one of them, unless partial."""
    state = {name if name.startswith("classifier.") else "bert." + name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("_ids")]
    if (missing and not partial) or unexpected:
        raise ValueError(f"missing {missing}, unexpected {unexpected}")


def logits(model, pairs):
    """Logits [pairs, labels] in float64; each pair is evaluated alone, so without padding."""
    rows = [
        model(input_ids=torch.tensor([pair["input_ids"]]), token_type_ids=torch.tensor([pair["token_type_ids"]])).logits for pair in pairs
    ]
    return torch.cat(rows).double().numpy()


def zero_types(pairs):
    return [{**p, "token_type_ids": [0] * len(p["token_type_ids"])} for p in pairs]


@contextlib.contextmanager
def epsilon(model, value):
    """Every LayerNorm of model has this epsilon inside the block."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.LayerNorm)]
    before = [m.eps for m in norms]
    for m in norms:
        m.eps = value
    yield
    for m, eps in zip(norms, before):
        m.eps = eps


@contextlib.contextmanager
def without_last_layer(model):
    layers = model.bert.encoder.layer
    model.bert.encoder.layer = layers[:-1]
    yield
    model.bert.encoder.layer = layers


@contextlib.contextmanager
def other_gelu(model):
    """tanh GELU in place of erf GELU, and the other way round."""
    parts = [layer.intermediate for layer in model.bert.encoder.layer]
    before = [part.intermediate_act_fn for part in parts]
    erf = isinstance(before[0], transformers.activations.GELUActivation)
    for part in parts:
        part.intermediate_act_fn = torch.nn.GELU("tanh" if erf else "none")
    yield
    for part, activation in zip(parts, before):
        part.intermediate_act_fn = activation


def controls(model, pairs, want, **more):
    """Prints how far wrong models are from want; more names further lists of pairs."""
    got = {"type ids zeroed": logits(model, zero_types(pairs))}
    got.update({name: logits(model, changed) for name, changed in more.items()})
    with without_last_layer(model):
        got["last layer dropped"] = logits(model, pairs)
    with other_gelu(model):
        got["other GELU"] = logits(model, pairs)
    with epsilon(model, 1e-3):
        got["epsilon 1e-3"] = logits(model, pairs)
    shown = ", ".join(f"{name} {common.ratio(value, want):.3g}" for name, value in got.items())
    print(f"  worst differences in units of 1e-4 of the deviation: {shown}")


def precise(model, pairs):
    """Logits computed in float64, for judging float32 itself."""
    out = logits(model.double(), pairs)
    model.float()
    return out


def in_dtype(config, tensors, dtype, pairs):
    """Logits of the model converted to dtype, as model.to(dtype) does it."""
    return logits(build(config, tensors).to(dtype), pairs).astype(np.float32)
