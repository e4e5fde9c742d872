"""The reference frameworks of `make parity`; every test that needs one skips where it is not installed."""

import importlib

import pytest


@pytest.fixture(scope='session')
def torch():
    torch = pytest.importorskip('torch', reason='PyTorch is not installed; `make parity` makes an environment with it')
    torch.manual_seed(0)
    return torch


@pytest.fixture(scope='session')
def torchvision(torch):
    importlib.import_module('benchmarks.torchvision_operators')
    return pytest.importorskip('torchvision', reason='torchvision is not installed; `make parity` installs it')


@pytest.fixture(scope='session')
def timm(torchvision):
    return pytest.importorskip('timm', reason='timm is not installed; `make parity` installs it')
