"""What a measurement ran on: processor, cores, clocks, other work, versions; never a host name."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ctedge.cpus import cpu_quota, usable_cpus
from ctedge.errors import counted
from ctedge.extras import version_of
from ctedge.runtimes.cuda_driver import find_device
from ctedge.runtimes.versions import VERSIONS

#: Instructions that decide how fast a network runs, as Linux names them (x86, then Arm).
FLAGS = (
    "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16", "amx_tile",
    "amx_bf16", "amx_int8", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip

#: Other work on more than this share of the cores is felt in the slowest answers at the latest.
BUSY_SHARE = 0.25

#: What is numbered in a report: ours, and what runs networks.
PACKAGES = ("ctedge", "numpy", *VERSIONS)

_CPUINFO = Path("/proc/cpuinfo")
_CPUS = Path("/sys/devices/system/cpu")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class BenchMachine:
    """What could be read of the machine; None is what it does not tell.

    Attributes:
        cpu: the model's name.
        flags: those of `FLAGS` that it has.
        cores_usable, cores: by this process' affinity and its quota, and in all.
        cpu_quota: cores' worth of time a container may use; None: no limit.
        governors: frequency governors of the usable cores, without repeats.
        mhz, mhz_most: of the first usable core, now and at most.
        boost: whether clocks above the nominal one are on.
        load: processes that ran or waited, mean of the minute before the start.
        gpu: an NVIDIA GPU and its driver.
        system, python, versions: of what is installed.
    """

    cpu: str
    flags: tuple[str, ...]
    cores_usable: int
    cores: int
    cpu_quota: float | None
    governors: tuple[str, ...] | None
    mhz: float | None
    mhz_most: float | None
    boost: bool | None
    load: float | None
    gpu: dict[str, Any] | None
    system: str
    python: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> BenchMachine:
        """Look at this machine, now."""
        told = _cpuinfo()
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        clock = _CPUS / f"cpu{cores[0]}" / "cpufreq"
        governors = {_line(_CPUS / f"cpu{n}" / "cpufreq" / "scaling_governor") for n in cores}
        governors.discard(None)
        device = find_device()
        has = set((told.get("flags") or told.get("Features") or "").split())
        versions = {name: version_of(name) for name in PACKAGES}
        return cls(
            cpu=told.get("model name") or platform.processor() or platform.machine(),
            flags=tuple(flag for flag in FLAGS if flag in has),
            cores_usable=usable_cpus(),
            cores=os.cpu_count() or 1,
            cpu_quota=cpu_quota(),
            governors=tuple(sorted(str(one) for one in governors)) or None,
            mhz=_mhz(clock / "scaling_cur_freq"),
            mhz_most=_mhz(clock / "cpuinfo_max_freq"),
            boost=_boost(),
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            gpu=None if device is None else asdict(device),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            versions={name: found for name, found in versions.items() if found is not None},
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def warnings(self) -> tuple[str, ...]:
        """What of the machine speaks against believing its figures."""
        said = []
        if self.load is not None and self.load > BUSY_SHARE * self.cores:
            said.append(
                f"busy: a load of {self.load:.1f} on {counted(self.cores, 'core')} before anything"
                " was measured; stop the other work, or take these figures for what they are then"
            )
        if self.governors is not None and self.governors != ("performance",):
            said.append(
                f"clocks: governor {', '.join(self.governors)}; for figures to compare,"
                " `cpupower frequency-set -g performance`"
            )
        if self.cpu_quota is not None and self.cpu_quota < self.cores_usable:
            said.append(
                f"quota: the container may use {self.cpu_quota:g} cores' time, and runtimes start"
                f" {counted(self.cores_usable, 'thread')}: they will be held up; pin it to whole"
                " cores"
            )
        return tuple(said)


def peak_memory_bytes() -> int | None:
    """The most memory that this process has held so far; None where nothing tells."""
    for line in (_text(_STATUS) or "").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    # Kilobytes on Linux, where a parent's peak may hide in it: asked only where the above is not.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first core."""
    first = (_text(_CPUINFO) or "").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _boost() -> bool | None:
    off = _line(_CPUS / "intel_pstate" / "no_turbo")
    if off is not None:
        return off == "0"
    on = _line(_CPUS / "cpufreq" / "boost")
    return None if on is None else on == "1"


def _mhz(path: Path) -> float | None:
    found = _line(path)
    return int(found) / 1000 if found is not None and found.isdigit() else None


def _line(path: Path) -> str | None:
    found = _text(path)
    return found.strip() if found else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
