"""Lets torchvision be imported where its compiled operators are for another build of PyTorch, as on CPUs.

Neither its classification networks nor its transforms need them, but two must be declared before torchvision is
imported, and stay so: import this module first.
"""

import torch
from torch import library

if not torch.cuda.is_available():
    OPERATORS = library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms'):
        OPERATORS.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
