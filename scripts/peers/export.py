"""Exports a model for ONNX Runtime and OpenVINO."""

import onnxruntime.transformers.optimizer
import openvino
import torch


def write(model, names, config, folder):
    """Writes model.onnx, with ONNX Runtime's own fused operators, and model.xml to folder.

    names are the model's arguments, of input_ids, attention_mask and token_type_ids.
    """
    raw = folder / "raw.onnx"
    inputs = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    axes = {name: {0: "batch", 1: "tokens"} for name in inputs}
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
    optimised = onnxruntime.transformers.optimizer.optimize_model(
        str(raw), model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    print("fused:", dict(optimised.get_fused_operator_statistics()))
    optimised.save_model_to_file(str(folder / "model.onnx"))
    openvino.save_model(openvino.convert_model(str(raw)), str(folder / "model.xml"), compress_to_fp16=False)
    raw.unlink()
