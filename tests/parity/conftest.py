"""The reference frameworks of `make parity`; every test that needs one skips where it is not installed."""

import pytest


@pytest.fixture(scope='session')
def torch():
    torch = pytest.importorskip('torch', reason='PyTorch is not installed; `make parity` makes an environment with it')
    torch.manual_seed(0)
    return torch


@pytest.fixture(scope='session')
def torchvision(torch):
    # The wheel's compiled operators are for another build of PyTorch than the CPU's. Its classification networks need
    # none of them, but two must be declared before it is imported, and stay so.
    operators = torch.library.Library('torchvision', 'DEF')
    operators.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    operators.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    yield pytest.importorskip('torchvision', reason='torchvision is not installed; `make parity` installs it')


@pytest.fixture(scope='session')
def timm(torchvision):
    return pytest.importorskip('timm', reason='timm is not installed; `make parity` installs it')
