"""Puts the builtin model into WORK in each peer's format: prepare.py BASE WORK."""

import json
import pathlib
import shutil
import sys

# Appended: a module of the goldens has the name of one of the standard library.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "goldens"))

LIBRARIES = pathlib.Path(__file__).resolve().parents[2] / "build" / "lib"

import builtin  # before torch: it sets the environment
import onnx
import onnxruntime
import onnxruntime.quantization
import onnxruntime.transformers.optimizer
import openvino
import torch


def main():
    base, work = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
    model = builtin.merged(base)
    save(model, base, work / "model")
    inputs = {name: torch.ones(2, 16, dtype=torch.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    export_onnx(model, inputs, work / "model")
    export_openvino(work)
    if sys.platform == "linux":  # a Mac runs neither hugot nor MLX on OpenBLAS
        place_libraries(work)


def place_libraries(work):
    """ONNX Runtime's library under the name hugot looks for; OpenBLAS under Python MLX, as mlxrank has it."""
    folder = work / "onnxruntime"
    folder.mkdir(exist_ok=True)
    link = folder / "libonnxruntime.so"
    link.unlink(missing_ok=True)
    link.symlink_to(next((pathlib.Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")))
    site = pathlib.Path(onnxruntime.__file__).parents[1]
    for pattern in ("libblas-*", "libgfortran.so.5", "libquadmath.so.0"):
        for path in LIBRARIES.glob(pattern):
            shutil.copy(path, site / "mlx_cpu.libs" / path.name)


def save(model, base, folder):
    """A plain model folder, as transformers and mlxrank read it."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config = {k: v for k, v in config.items() if v is not None}  # hugot takes no null for an id
    path.write_text(json.dumps(config, indent=2), "utf-8")
    tokenizer = json.loads((base / "tokenizer.json").read_text("utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None  # the base's would cut at 128
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    settings = json.loads((base / "tokenizer_config.json").read_text("utf-8"))
    settings["model_max_length"] = 512
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    for name in ("vocab.txt", "special_tokens_map.json"):
        (folder / name).write_bytes((base / name).read_bytes())


def export_onnx(model, inputs, folder):
    """model.onnx, fused by ONNX Runtime's optimizer for BERT; and int8.onnx."""
    axes = {name: {0: "batch", 1: "tokens"} for name in inputs}
    raw, fused = folder.parent / "raw.onnx", folder / "model.onnx"
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        str(raw),
        input_names=list(inputs),
        output_names=["logits"],
        dynamic_axes={**axes, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    config = model.config
    optimised = onnxruntime.transformers.optimizer.optimize_model(
        str(raw), model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    print("fused:", dict(optimised.get_fused_operator_statistics()))
    optimised.save_model_to_file(str(fused))
    onnxruntime.quantization.quantize_dynamic(
        str(fused),
        str(folder.parent / "int8.onnx"),
        per_channel=True,
        weight_type=onnxruntime.quantization.QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # not inferred past fused nodes
    )


def export_openvino(work):
    openvino.save_model(openvino.convert_model(str(work / "raw.onnx")), str(work / "model.xml"), compress_to_fp16=False)


main()
