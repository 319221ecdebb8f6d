"""ONNX Runtime: peer_onnxruntime.py FOLDER FILE.onnx."""

import sys

import onnxruntime
import protocol


class Peer(protocol.Sorted):
    def __init__(self, folder, path):
        super().__init__(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = protocol.CORES
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.names = [each.name for each in self.session.get_inputs()]

    def forward(self, ids, mask, types):
        return self.session.run(["logits"], protocol.inputs(self.names, ids, mask, types))[0][:, 0]


protocol.serve(Peer(sys.argv[1], sys.argv[2]))
