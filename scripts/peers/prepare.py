"""Puts the builtin model into WORK in each peer's format: prepare.py BASE WORK."""

import json
import pathlib
import shutil
import sys

# Appended: a module of the goldens has the name of one of the standard library.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "goldens"))

LIBRARIES = pathlib.Path(__file__).resolve().parents[2] / "build" / "lib"

import builtin  # before torch: it sets the environment
import export
import onnx
import onnxruntime
import onnxruntime.quantization


def main():
    base, work = (pathlib.Path(arg).resolve() for arg in sys.argv[1:3])
    model = builtin.merged(base)
    save(model, base, work / "model")
    export.write(model, ("input_ids", "attention_mask", "token_type_ids"), model.config, work / "model")
    quantise(work / "model" / "model.onnx", work / "int8.onnx")
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


def quantise(path, to):
    onnxruntime.quantization.quantize_dynamic(
        str(path),
        str(to),
        per_channel=True,
        weight_type=onnxruntime.quantization.QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # not inferred past fused nodes
    )


main()
