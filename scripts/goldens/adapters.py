"""weights/testdata: PEFT adapters and what PEFT's own merge makes of them."""

import json
import pathlib
import tempfile

import bert
import builtin
import common
import numpy as np
import peft
import safetensors.torch
import tensors
import tiny_models
import torch

FOLDER = common.WEIGHTS / "peft"
BASE_SEED = 100
BASE = tiny_models.config(32, 2, 2, intermediate_size=64, vocab_size=101, max_position_embeddings=16)

EVERYWHERE = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
ATTENTION = ["query", "value"]

# name -> (labels, dtype of the saved adapter, settings of the LoraConfig).
ADAPTERS = {
    "plain": (1, torch.float32, {"target_modules": EVERYWHERE, "r": 4, "lora_alpha": 8, "task_type": None}),
    "rslora": (1, torch.float32, {"target_modules": r".*\.self\.(query|value)", "r": 3, "lora_alpha": 6, "use_rslora": True}),
    "patterns": (
        1,
        torch.float32,
        {
            "target_modules": EVERYWHERE,
            "r": 2,
            "lora_alpha": 4,
            "rank_pattern": {"intermediate.dense": 3, r"layer\.1\.attention\.self\.(query|key)": 5, "query": 1},
            "alpha_pattern": {"^bert.encoder.layer.0.output.dense": 1, "output.dense": 16, "key": 3},
        },
    ),
    "modules-to-save": (
        1,
        torch.float32,
        {"target_modules": ATTENTION, "r": 4, "lora_alpha": 4, "modules_to_save": ["classifier", "pooler"]},
    ),
    "labels-3": (3, torch.float32, {"target_modules": ["key"], "r": 2, "lora_alpha": 2}),
    "bias-all": (1, torch.float32, {"target_modules": ATTENTION, "r": 2, "lora_alpha": 4, "bias": "all"}),
    "bias-lora-only": (1, torch.float32, {"target_modules": ATTENTION, "r": 2, "lora_alpha": 4, "bias": "lora_only"}),
    "float16": (1, torch.float16, {"target_modules": ATTENTION, "r": 4, "lora_alpha": 8}),
    "bfloat16": (1, torch.bfloat16, {"target_modules": ATTENTION, "r": 4, "lora_alpha": 8}),
}


def base(labels):
    """The base model with that many labels, and its tensors."""
    config = {**BASE, "id2label": {str(n): f"LABEL_{n}" for n in range(labels)}}
    config.pop("label2id")
    weights = tensors.tensors(config, BASE_SEED)
    return bert.build(config, weights), weights


def train(model, seed):
    """Stands for training: every tensor of the adapter gets numbers of its own."""
    trained = peft.get_peft_model_state_dict(model)
    for name, value in trained.items():
        u = tensors.uniform(name, seed, value.numel()) / 4
        trained[name] = torch.from_numpy(u.astype(np.float32).reshape(value.shape)).to(value.dtype)
    peft.set_peft_model_state_dict(model, trained)


def save(model, folder, dtype):
    """Saves as PEFT does, in dtype, without its model card; settings in a fixed order."""
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        weights = safetensors.torch.load_file(pathlib.Path(scratch) / "adapter_model.safetensors")
        settings = json.loads((pathlib.Path(scratch) / "adapter_config.json").read_text())
    for name, value in settings.items():
        if isinstance(value, list):
            settings[name] = sorted(value)
    weights = {name: value.to(dtype) for name, value in weights.items()}
    common.write(folder / "adapter_model.safetensors", safetensors.torch.save(weights, {"format": "pt"}))
    common.write(folder / "adapter_config.json", (json.dumps(settings, indent=2) + "\n").encode())


def merge(folder, labels):
    """The tensors that differ after PEFT loaded the adapter of folder and merged it."""
    model, before = base(labels)
    merged = peft.PeftModel.from_pretrained(model, folder).merge_and_unload()
    after = {name.removeprefix("bert."): p.numpy() for name, p in merged.state_dict().items()}
    return {name: after[name] for name in before if not np.array_equal(after[name], before[name])}


def make_adapter(name, seed, labels, dtype, settings):
    folder = FOLDER / name
    model, _ = base(labels)
    options = {"task_type": "SEQ_CLS", "init_lora_weights": False, **settings}
    model = peft.get_peft_model(model, peft.LoraConfig(**options))
    train(model, seed)
    save(model, folder, dtype)
    changed = merge(folder, labels)
    common.write(folder / "merged.safetensors", tensors.safetensors_bytes(changed))
    print(f"  {name}: {len(changed)} tensors differ from the base's")


def sample(name, array):
    """What is recorded of a large tensor: two sums and 64 values."""
    u = tensors.uniform(name, 0, 64)
    indexes = np.unique(np.floor((u + 1) / 2 * array.size).astype(int))
    exact = array.astype(np.float64)
    return {
        "name": name,
        "shape": list(array.shape),
        "sum": float(exact.sum()),
        "abs_sum": float(np.abs(exact).sum()),
        "indexes": indexes.tolist(),
        "values": common.numbers(array.ravel()[indexes]),
    }


def make_builtin(args):
    """weights/testdata/builtin_merged.json.gz."""
    before = builtin.encoder(args.base).state_dict()
    after = builtin.merged(args.base).state_dict()
    rows = [sample(name.removeprefix("bert."), value.numpy()) for name, value in after.items() if not torch.equal(value, before[name])]
    common.write_json(common.WEIGHTS / "builtin_merged.json.gz", {**builtin.made_with(args.base), "tensors": rows})
    print(f"  {len(rows)} tensors")


def make(_):
    versions = common.made_with("torch", "transformers", "peft", "safetensors", "numpy")
    about = {"made_with": versions, "seed": BASE_SEED, "sha256": tensors.sha256(BASE, BASE_SEED), "config": BASE}
    common.write(FOLDER / "base.json", (json.dumps(about, indent=2) + "\n").encode())
    for n, (name, (labels, dtype, settings)) in enumerate(ADAPTERS.items()):
        make_adapter(name, BASE_SEED + 1 + n, labels, dtype, settings)
