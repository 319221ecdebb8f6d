"""Who takes part, in which process, and set up how."""

import dataclasses
import pathlib
import sys

import processes

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CORES = int(processes.CORES)
OURS = "mlxrank"


@dataclasses.dataclass
class Subject:
    name: str
    precision: str
    command: list  # its process, which speaks as protocol.py says
    once: list  # its start: a process that scores one QUERY DOCUMENT, appended
    settings: str  # for the reader
    tuned: bool = True  # takes the batch size that is fastest for it
    env: dict = dataclasses.field(default_factory=dict)
    whole: bool = True  # cuts long pairs as the tokenizer of transformers does

    @property
    def ours(self):
        return self.name.startswith(OURS)

    @property
    def reduced(self):
        return self.precision != "float32"


def subjects(work, folder):
    """Everyone who can run the builtin model, which is in folder."""
    return [*mlxrank(work, folder), *peers(work, folder)]


def encoder(work, folder):
    """Everyone who can run a model of another architecture, which is in folder."""
    return [
        mlxrank(work, folder)[0],
        sentence_transformers(
            folder, f"CrossEncoder.predict, {CORES} threads, the batch size that is fastest here; it sorts by length itself", tuned=True
        ),
        onnx_runtime(
            folder, "exported by torch.onnx, fused by its transformers optimizer where it knows the model, all graph optimisations"
        ),
        openvino(folder),
    ]


def mlxrank(work, folder):
    def subject(name, precision, settings, env=None):
        command = [work / "mlxrank", "-model", folder, "-dtype", precision]
        command += ["-library", ROOT / "build" / "lib" / "libmlxrank.so"]
        once = [ROOT / "build" / "bin" / "mlxrank", "rerank", "--model", folder, "--dtype", precision, "--query"]
        return Subject(name, precision, command, once, settings, tuned=False, env=env or {})

    unfused = {"MLXRANK_UNFUSED_GRAPH": "1"}
    return [
        subject(OURS, "float32", "defaults"),
        subject(OURS + " bfloat16", "bfloat16", "`--dtype bfloat16`"),
        subject(OURS + " int8", "int8", "`--dtype int8`"),
        subject(OURS + " unfused graph", "float32", "`MLXRANK_UNFUSED_GRAPH=1`: MLX's own operations, as on Metal", unfused),
    ]


BATCHES = f"{CORES} threads, batches of pairs sorted by length, the batch size that is fastest here"


def python(name, precision, settings, *args, **more):
    command = [sys.executable, "-B", HERE / args[0], *args[1:]]
    return Subject(name, precision, command, [*command, "--once"], settings, **more)


def sentence_transformers(folder, settings, tuned):
    return python("sentence-transformers", "float32", settings, "peer_sentence_transformers.py", folder, tuned=tuned)


def onnx_runtime(folder, settings):
    return python("ONNX Runtime", "float32", f"{settings}, {BATCHES}", "peer_onnxruntime.py", folder, folder / "model.onnx")


def openvino(folder):
    settings = f"inference precision f32, performance hint LATENCY, {BATCHES}"
    return python("OpenVINO", "float32", settings, "peer_openvino.py", folder, folder / "model.xml", "f32")


def peers(work, model):
    hugot = [work / "hugot", model, work / "onnxruntime"]
    return [
        sentence_transformers(
            model, f"CrossEncoder.predict, its default batch size of 32, {CORES} threads; it sorts by length itself", tuned=False
        ),
        python(
            "PyTorch",
            "float32",
            f"transformers, scaled-dot-product attention, inference mode, {BATCHES}",
            "peer_torch.py",
            model,
            "float32",
        ),
        python("PyTorch bfloat16", "bfloat16", "the same with the weights in bfloat16", "peer_torch.py", model, "bfloat16"),
        onnx_runtime(model, "exported by torch.onnx, fused by its transformers optimizer, all graph optimisations"),
        python(
            "ONNX Runtime int8", "int8", "the same, quantised dynamically, per channel", "peer_onnxruntime.py", model, work / "int8.onnx"
        ),
        openvino(model),
        python(
            "OpenVINO bfloat16",
            "bfloat16",
            "the same with inference precision bf16",
            "peer_openvino.py",
            model,
            model / "model.xml",
            "bf16",
        ),
        python(
            "Python MLX",
            "float32",
            f"the graph of native/src/unfused_ops.cpp on Debian's OpenBLAS with {CORES} threads, as in mlxrank, batches sorted by length, the batch size that is fastest here",
            "peer_mlx.py",
            model,
            env={"OPENBLAS_NUM_THREADS": str(CORES)},
        ),
        Subject(
            "hugot",
            "float32",
            hugot,
            [*hugot, "--once"],
            f"its cross-encoder on the ONNX Runtime and the fused model of the rows above, {CORES} threads, the documents of a query sorted by length, the batch size that is fastest here",
            whole=False,
        ),
    ]
