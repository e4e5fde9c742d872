"""PyTorch with timm's networks: eager or compiled, contiguous or channels last."""

from collections.abc import Callable

import torch

import benchmarks.torchvision_operators  # noqa: F401, isort: skip
import timm

from benchmarks.contenders import CLASSES, examples

NAMES = {
    'mobilenet_v1': 'mobilenetv1_100',
    'mobilenet_v2': 'mobilenetv2_100',
    'mobilenet_v3_large': 'mobilenetv3_large_100',
    'mobilenet_v3_small': 'mobilenetv3_small_100',
}
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
torch.backends.cudnn.benchmark = True


def wait(result: torch.Tensor) -> None:
    """Until all that was given to the device is computed; on a CPU a result is."""
    if result.is_cuda:
        torch.cuda.synchronize()


def create(network: str) -> torch.nn.Module:
    """Timm's network with random weights."""
    return timm.create_model(NAMES[network], num_classes=CLASSES, drop_rate=0.0)


def _prepare(network: str, batch: int, size: int, channels_last: bool):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model = create(network).to(DEVICE, memory_format=memory_format)
    images, labels = examples(batch, size)
    images = torch.from_numpy(images).permute(0, 3, 1, 2).to(DEVICE).contiguous(memory_format=memory_format)
    return model, images, torch.from_numpy(labels).long().to(DEVICE)


def _autocast(dtype: str):
    return torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == 'bfloat16')


def train(
    network: str,
    batch: int,
    size: int,
    dtype: str = 'float32',
    channels_last: bool = True,
    compiled: bool = False,
    mode: str = 'default',
) -> Callable:
    """A step of SGD with momentum; `mode` is torch.compile's."""
    model, images, labels = _prepare(network, batch, size, channels_last)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def loss_of(images, labels):
        with _autocast(dtype):
            return torch.nn.functional.cross_entropy(model(images), labels)

    loss_function = torch.compile(loss_of, mode=mode) if compiled else loss_of

    def run() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(images, labels)
        loss.backward()
        optimizer.step()
        return loss

    return run


def inference(
    network: str,
    batch: int,
    size: int,
    dtype: str = 'float32',
    channels_last: bool = True,
    compiled: bool = False,
    mode: str = 'default',
) -> Callable:
    """The logits of one batch; `mode` is torch.compile's. On a GPU the weights are of `dtype`, too."""
    model, images, _ = _prepare(network, batch, size, channels_last)
    model.eval()
    if DEVICE == 'cuda':
        model, images = model.to(getattr(torch, dtype)), images.to(getattr(torch, dtype))
    model = torch.compile(model, mode=mode) if compiled else model

    def run() -> torch.Tensor:
        with torch.inference_mode(), _autocast('float32' if DEVICE == 'cuda' else dtype):
            return model(images)

    return run
