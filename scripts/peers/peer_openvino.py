"""OpenVINO: peer_openvino.py FOLDER FILE.xml f32|bf16."""

import sys

import openvino
import protocol


class Peer(protocol.Sorted):
    def __init__(self, folder, path, precision):
        super().__init__(folder)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": protocol.CORES, "INFERENCE_PRECISION_HINT": precision}
        model = openvino.Core().compile_model(path, "CPU", settings)
        self.names = [each.any_name for each in model.inputs]
        self.request = model.create_infer_request()

    def forward(self, ids, mask, types):
        return self.request.infer(protocol.inputs(self.names, ids, mask, types))[0][:, 0]


protocol.serve(Peer(*sys.argv[1:4]))
