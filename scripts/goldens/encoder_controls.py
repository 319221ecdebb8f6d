"""Ways to spoil a model of any architecture: what a golden's check must notice."""

import contextlib

import common
import directories
import torch
import transformers


@contextlib.contextmanager
def changed(owner, **values):
    """Attributes of owner have these values inside the block."""
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    yield
    for name, value in before.items():
        setattr(owner, name, value)


@contextlib.contextmanager
def all_of(managers):
    with contextlib.ExitStack() as stack:
        for manager in managers:
            stack.enter_context(manager)
        yield


def encoder(model):
    return model[0].model


def modules(model, kind):
    return [m for m in model.modules() if isinstance(m, kind)]


def epsilon(model):
    return all_of([changed(m, eps=1e-3) for m in modules(model, torch.nn.LayerNorm)])


def without_last_layer(model):
    """The list of layers is the one list of modules that belongs to the encoder and not to a layer."""
    for owner in encoder(model).modules():
        for name, child in owner.named_children():
            if isinstance(child, torch.nn.ModuleList):
                # RoPE's layer types are read from the configuration, as many as there are layers.
                return changed(owner, **{name: child[:-1]})
    raise ValueError("there are no layers")


def other_activation(model):
    """Another function in feed-forward layers: erf GELU in place of all others, tanh GELU in place of it."""
    parts = []
    for owner in encoder(model).modules():
        for name in ("intermediate_act_fn", "act", "activation"):
            function = getattr(owner, name, None)
            if isinstance(function, torch.nn.Module) and "Head" not in type(owner).__name__:
                exact = isinstance(function, transformers.activations.GELUActivation)
                parts.append(changed(owner, **{name: torch.nn.GELU("tanh" if exact else "none")}))
    return all_of(parts)


def linear_head(model):
    """The activations of the head are gone."""
    parts = [changed(torch, tanh=lambda x: x)]
    for owner in model.modules():
        for name in ("activation", "act", "activation_function"):
            function = getattr(owner, name, None)
            if isinstance(function, torch.nn.Module) and ("Head" in type(owner).__name__ or type(owner).__name__ == "Dense"):
                parts.append(changed(owner, **{name: torch.nn.Identity()}))
    if type(encoder(model)).__name__.startswith("DistilBert"):
        parts.append(changed(torch.nn.ReLU, forward=lambda _, x: x))
    return all_of(parts)


@contextlib.contextmanager
def gates_swapped(model):
    def swap():
        for m in encoder(model).modules():
            if hasattr(m, "Wi"):
                for p in m.Wi.parameters():
                    p.copy_(torch.cat(list(reversed(p.chunk(2)))))

    swap()
    yield
    swap()


@contextlib.contextmanager
def bases_swapped(model):
    """The frequencies of global and local layers change places."""
    (rope,) = [m for m in encoder(model).modules() if hasattr(m, "sliding_attention_inv_freq")]
    full, sliding = rope.full_attention_inv_freq, rope.sliding_attention_inv_freq
    rope.full_attention_inv_freq, rope.sliding_attention_inv_freq = sliding, full
    yield
    rope.full_attention_inv_freq, rope.sliding_attention_inv_freq = full, sliding


def window(model, by):
    config = encoder(model).config
    return changed(config, local_attention=config.local_attention + 2 * by)


def other_pooling(model):
    config = encoder(model).config
    for part in list(model)[1:]:
        if hasattr(part, "pooling_mode"):
            modes = [part.pooling_mode] if isinstance(part.pooling_mode, str) else list(part.pooling_mode)
            return changed(part, pooling_mode=["mean" if modes[0] == "cls" else "cls", *modes[1:]])
    if hasattr(config, "classifier_pooling"):
        return changed(config, classifier_pooling="cls" if config.classifier_pooling == "mean" else "mean")
    return None


def shifted(model, pairs, by):
    """Position ids of RoBERTa, off by that many."""
    first = encoder(model).config.pad_token_id + 1 + by
    return [{**p, "position_ids": list(range(first, first + len(p["input_ids"])))} for p in pairs]


def report(model, pairs, want):
    """Prints how far wrong models are from want."""
    config = encoder(model).config
    got = {"tokens reversed": directories.logits(model, [{**p, "input_ids": p["input_ids"][::-1]} for p in pairs])}
    spoilt = {
        "last layer dropped": without_last_layer(model),
        "another activation": other_activation(model),
        "epsilon 1e-3": epsilon(model),
        "linear head": linear_head(model),
        "other pooling": other_pooling(model),
    }
    if config.model_type == "modernbert":
        spoilt["halves of the gate swapped"] = gates_swapped(model)
        spoilt["window 1 more"], spoilt["window 1 less"] = window(model, 1), window(model, -1)
        bases = config.rope_parameters
        if bases["full_attention"]["rope_theta"] != bases["sliding_attention"]["rope_theta"]:
            spoilt["RoPE bases swapped"] = bases_swapped(model)
    for name, manager in spoilt.items():
        if manager is not None:
            with manager:
                got[name] = directories.logits(model, pairs)
    if getattr(config, "type_vocab_size", 1) > 1:
        got["type ids zeroed"] = directories.logits(model, [{**p, "token_type_ids": [0] * len(p["input_ids"])} for p in pairs])
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        got["positions from 0"] = positioned(model, pairs, -config.pad_token_id - 1)
        got["positions 1 less"] = positioned(model, pairs, -1)
        if any(config.pad_token_id in p["input_ids"] for p in pairs):
            got["pad tokens with positions"] = positioned(model, pairs, 0)
    shown = ", ".join(f"{name} {common.ratio(value, want):.3g}" for name, value in got.items())
    print(f"  worst differences in units of 1e-4 of the deviation: {shown}")


def positioned(model, pairs, by):
    return directories.logits(model, shifted(model, pairs, by))
