"""Makes torchvision importable beside a CPU build of torch; import this module before torchvision.

PyPI's torchvision has operators built for CUDA. Beside a CPU build of torch its compiled library does not load, and its
import fails with "operator torchvision::nms does not exist", because it describes operators that were never declared.
No task uses these operators, so declaring them is enough. Where torchvision loads by itself, nothing is done.
"""

import importlib
import sys
from typing import Any

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # left half-loaded by the failed import
    LIBRARY: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):  # declared as long as LIBRARY lives
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")
