"""Engines that only predict: ONNX Runtime and OpenVINO, from an ONNX file that PyTorch writes from the same net."""

import warnings
from pathlib import Path

import numpy as np

from benchmarks import jobs


def write_onnx(folder: Path, target: Path) -> None:
    """The net of a job as ONNX."""
    import torch

    from benchmarks.torch_net import TorchNet

    job = jobs.read(folder)
    net = TorchNet(job.param, job.weights).eval()
    inputs = tuple(torch.from_numpy(job.inputs[name]) for name in net.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(net, inputs, target, input_names=net.inputs, dynamo=False)


class OnnxRuntime:
    def __init__(self, folder: Path, onnx: Path, threads: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.force_spinning_stop", "1")  # between its turns
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._inputs = jobs.read(folder).inputs

    def run(self, task: str) -> None:
        self._outputs = self._session.run(None, self._inputs)

    def output(self) -> np.ndarray:
        self.run("predict")
        return self._outputs[0]


class OpenVino:
    def __init__(self, folder: Path, onnx: Path, threads: int):
        import openvino

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._request = openvino.compile_model(onnx, "CPU", settings).create_infer_request()
        self._inputs = jobs.read(folder).inputs

    def run(self, task: str) -> None:
        self._request.infer(self._inputs)

    def output(self) -> np.ndarray:
        self.run("predict")
        return self._request.get_output_tensor().data.copy()


ENGINES = {"ONNX Runtime": OnnxRuntime, "OpenVINO": OpenVino}
