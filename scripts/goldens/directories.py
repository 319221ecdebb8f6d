"""Model directories with given weights: written by transformers and sentence-transformers, and read by CrossEncoder."""

import json
import struct

import bert  # noqa: F401, before torch: it sets PyTorch up
import sentence_transformers
import setting_cases
import tensors
import torch
import transformers
from sentence_transformers.sentence_transformer import modules as module_classes

# The tokenizer is not what these goldens are about: Go writes one of its own.
TOKENIZER = {
    "tokenizer.json": setting_cases.BASE["tokenizer.json"],
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"},
}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def layout(path):
    """The names and shapes of a safetensors file, in its order."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return [[name, entry["shape"]] for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"])]


def transformer(folder, config):
    """Writes config and weights of the architecture that config names, with the names that transformers saves."""
    write_json(folder / "config.json", config)
    for name, value in TOKENIZER.items():
        write_json(folder / name, value)
    read = transformers.AutoConfig.from_pretrained(folder)
    getattr(transformers, config["architectures"][0])(read).save_pretrained(folder)
    write_json(folder / "config.json", config)  # as it was: transformers adds and renames fields


def module(name, arguments):
    arguments = dict(arguments)
    if "activation_function" in arguments:
        arguments["activation_function"] = getattr(torch.nn, arguments["activation_function"])()
    return getattr(module_classes, name)(**arguments)


def saved(folder, encoder, modules):
    """Writes to folder what CrossEncoder saves of the model in encoder with modules behind it."""
    if modules:
        first = module_classes.Transformer(str(encoder), transformer_task="feature-extraction")
        model = sentence_transformers.CrossEncoder(
            modules=[first, *(module(*m) for m in modules)], device="cpu", activation_fn=torch.nn.Identity()
        )
    else:
        model = sentence_transformers.CrossEncoder(str(encoder), device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)


def fill(folder, seed):
    """Gives every safetensors file of folder the weights of seed; returns {file: names and shapes}.

    The name of a module's tensor begins with its folder: modules have the same names.
    """
    found = {}
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors")):
        path = folder / name
        found[name] = layout(path)
        named = {n: tensors.tensor(prefix(name) + n, shape, seed) for n, shape in found[name]}
        path.write_bytes(tensors.safetensors_bytes(named))
    return found


def prefix(file):
    return file.rpartition("/")[0] + "/" if "/" in file else ""


def settings(folder):
    """{name: value} of the JSON files of folder, without the tokenizer's."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.json"))]
    return {name: json.loads((folder / name).read_text()) for name in names if not name.startswith(("tokenizer", "special_tokens_map"))}


def make(scratch, spec, seed):
    """Makes the directory of a model; returns its folder, settings and tensors."""
    encoder, folder = scratch / "encoder", scratch / "model"
    encoder.mkdir()
    transformer(encoder, spec["config"])
    if "modules" in spec:
        saved(folder, encoder, spec["modules"])
    else:
        folder = encoder
    for name, rewrite in spec.get("rewrite", {}).items():
        write_json(folder / name, rewrite(json.loads((folder / name).read_text())))
    found = fill(folder, seed)
    return folder, settings(folder), found


def load(folder, dtype=torch.float32):
    """The model in folder. Only from_pretrained in dtype keeps RoPE's frequencies in float32."""
    kwargs = {"attn_implementation": "eager", "dtype": dtype}
    return sentence_transformers.CrossEncoder(str(folder), device="cpu", model_kwargs=kwargs).eval()


def logits(model, pairs):
    """Logits [pairs, labels] in float64; each pair is evaluated alone, so without padding."""
    rows = []
    for pair in pairs:
        features = {name: torch.tensor([value]) for name, value in pair.items()}
        features["attention_mask"] = torch.ones_like(features["input_ids"])
        rows.append(model(features)["scores"])
    return torch.cat(rows).double().numpy()


def precise(model, pairs):
    """Logits computed in float64, for judging float32 itself."""
    out = logits(model.double(), pairs)
    model.float()
    return out
