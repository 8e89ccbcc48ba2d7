"""Where a builder may take its kernels from: no library that cannot be opened here.

TensorRT 8.5 and 8.6 take some from cuDNN and cuBLAS unless told otherwise, and open both for it;
they have 3D convolutions and pooling of their own as well. 10 takes none of theirs unless told to;
11 and TensorRT-RTX do not know them.
"""

from __future__ import annotations

import ctypes
from typing import Any

#: What each source opens, in every version that a TensorRT with it was built against. Its plug-in
#: library is linked with them: where that came along, they are in the process and open by name.
#: Source: the sections of libnvinfer_plugin.so.8 in tensorrt 8.5.3.1; CUDA 10.2 to 12.
_LIBRARIES = {
    "CUDNN": ("libcudnn.so.8",),
    "CUBLAS": ("libcublas.so.11", "libcublas.so.12", "libcublas.so.10"),
    "CUBLAS_LT": ("libcublasLt.so.11", "libcublasLt.so.12", "libcublasLt.so.10"),
}


def allow_what_opens(trt: Any, config: Any) -> list[str]:
    """Take the sources off a builder's own choice whose library is not here; those that stay."""
    bits = {name: 1 << int(member) for name, member in trt.TacticSource.__members__.items()}
    chosen = config.get_tactic_sources()
    lacking = [
        bits[name]
        for name, libraries in _LIBRARIES.items()
        if chosen & bits.get(name, 0) and not any(map(_opens, libraries))
    ]
    if lacking:
        config.set_tactic_sources(chosen & ~sum(lacking))
    allowed = config.get_tactic_sources()
    return [name for name, bit in bits.items() if allowed & bit]


def _opens(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
