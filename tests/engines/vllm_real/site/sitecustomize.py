"""Runs at the start of every Python process that has this folder on its path (`make test-vllm`).

The published torchvision is built for CUDA. Beside a CPU build of torch its import fails, since operators of
its library are missing; declaring two of them is enough. Nothing that the tests call uses them.
"""

try:
    import torch
except ImportError:  # a process of another Python
    pass
else:
    _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
