"""ONNX Runtime with timm's networks, exported by PyTorch."""

import pathlib
import tempfile
from collections.abc import Callable

import onnxruntime
import torch

from benchmarks.contenders import examples
from benchmarks.contenders.pytorch import create


def inference(network: str, batch: int, size: int) -> Callable:
    """The logits of one batch."""
    images = examples(batch, size)[0].transpose(0, 3, 1, 2).copy()  # NCHW
    model = create(network).eval()
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / 'network.onnx')
        torch.onnx.export(model, (torch.from_numpy(images),), path, dynamo=True, input_names=['images'], verbose=False)
        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda: session.run(None, {'images': images})
