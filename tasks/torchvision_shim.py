"""Lets torchvision be imported beside a CPU build of torch.

PyPI's torchvision has operators built for CUDA; beside a CPU build of torch its compiled library does not load, and its
import fails with "operator torchvision::nms does not exist", because it describes operators that were never declared.
No task uses these operators: declaring them is enough. Where torchvision loads by itself, nothing is done.
"""

import importlib
import sys

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left half-loaded
    LIBRARY = torch.library.Library("torchvision", "DEF")  # the operators vanish with this object
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")
