"""What this CPU computes natively: bfloat16, and products of bytes that do not saturate.

Without VNNI, AMX or their like an x86 CPU adds pairs of byte products in 16 bits and cuts off what
does not fit (VPMADDUBSW). A file of int8 then answers otherwise than where its gates ran: not a
rounding, but labels. oneDNN can be told to leave instructions out, and that is heeded as well.

Source: docs.openvino.ai, "Saturation (overflow) Issue Workaround"; oneapi-src.github.io/oneDNN,
"Nuances of int8 Computations" and "CPU Dispatcher Control" (ONEDNN_MAX_CPU_ISA).
"""

from __future__ import annotations

import os
from pathlib import Path

from ctedge.errors import RuntimeUnavailable

#: With AVX-512 alone OpenVINO simulates bfloat16, slower than float32 (docs.openvino.ai, bfloat16
#: inference).
NATIVE_BF16 = ("amx_bf16", "avx512_bf16")

#: Byte products that are added in 32 bits.
NATIVE_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni")

#: oneDNN's own names of what has none of them.
_ISA_WITHOUT_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")
_ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")

#: What to do where a precision cannot be had.
LEAVE_PRECISION_OUT = "leave precision out to take what works here"

#: Where Linux lists the flags.
CPUINFO = Path("/proc/cpuinfo")


def require_native(precision: str) -> None:
    """Refuse a precision that OpenVINO would run on this CPU slower, or with other answers.

    Raises:
        RuntimeUnavailable: it would.
    """
    if precision == "bf16" and not has_native_bf16():
        raise RuntimeUnavailable(
            "this CPU does not compute in bfloat16",
            found="no instructions for it",
            expected=" or ".join(NATIVE_BF16),
            fix=LEAVE_PRECISION_OUT,
        )
    why = why_int8_saturates() if precision == "int8" else None
    if why is not None:
        raise RuntimeUnavailable(
            "OpenVINO's int8 saturates on this CPU, and answers otherwise than where it was gated",
            found=why,
            expected=" or ".join(NATIVE_INT8),
            fix=LEAVE_PRECISION_OUT,
        )


def has_native_bf16() -> bool:
    """Whether an x86 CPU has bfloat16 instructions; where it does not say, true."""
    flags = _x86_flags()
    return flags is None or not flags.isdisjoint(NATIVE_BF16)


def why_int8_saturates() -> str | None:
    """What makes sums of byte products saturate here; None where nothing is known to.

    Nothing of the kind is known of Arm CPUs, and a system that does not list the flags of its CPU
    says nothing.
    """
    flags = _x86_flags()
    if flags is not None and flags.isdisjoint(NATIVE_INT8):
        return f"an x86 CPU with {' and '.join(sorted(flags & {'avx2', 'avx512f'})) or 'no AVX2'}"
    told = next((os.environ[name] for name in _ISA_VARIABLES if os.environ.get(name)), "")
    if flags is not None and told.upper() in _ISA_WITHOUT_VNNI:
        return f"oneDNN was told to stay at {told}"
    return None


def _x86_flags() -> frozenset[str] | None:
    """As Linux lists them; None elsewhere, and on an Arm CPU, whose list is called "Features"."""
    try:
        lines = CPUINFO.read_text("ascii", "replace").splitlines()
    except OSError:
        return None
    return next((frozenset(line.split()) for line in lines if line.startswith("flags")), None)
