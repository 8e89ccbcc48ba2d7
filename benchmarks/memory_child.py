"""One measurement of `memory.py`, in a process of its own: what is asked comes as JSON.

    python benchmarks/memory_child.py '{"what": "peak", "source": "scan.nii.gz", ...}'

Nothing is imported here before the measurement that `ctedge` does not import itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Memory is sampled so often in a run, whatever its length.
SAMPLES = 400

#: However slow it is: fewer give no straight line.
LEAST = 8

#: So long a thread may take from its last line to its end.
ENDING_S = 5.0

#: Runtimes plan their memory in the first run, and take what they planned in the second.
LATER = 3


def peak(asked: dict[str, Any]) -> dict[str, Any]:
    """Import, load, judge one scan; the most memory that was held until then, and after more."""
    with _door(asked) as door:
        door.predict(asked["source"])
        from ctedge.bench.machine import peak_memory_bytes

        first = peak_memory_bytes()
        for _ in range(LATER):
            door.predict(asked["source"])
        later = peak_memory_bytes()
        return {"runtime": door.runtime, "first_bytes": first, "later_bytes": later}


def slope(asked: dict[str, Any]) -> dict[str, Any]:
    """Judge one source again and again; how much memory there was after how many answers."""
    source = _source(asked)
    with _door(asked) as door:
        door.predict(source, explain=asked["explain"])
        found = _sampled(lambda: door.predict(source, explain=asked["explain"]), asked)
        return {"runtime": door.runtime, **found}


def cycles(asked: dict[str, Any]) -> dict[str, Any]:
    """Load and close again and again."""
    with _door(asked) as door:
        name = door.runtime
    return {"runtime": name, **_sampled(lambda: _door(asked).close(), asked, trim=True)}


def sessions(asked: dict[str, Any]) -> dict[str, Any]:
    """Open and drop a bundle's network with its runtime alone, without ctedge's."""
    runtime = asked["candidate"][0]
    opened = {"onnxruntime": _onnxruntime_session, "openvino": _openvino_network}[runtime](asked)
    return {"runtime": runtime, **_sampled(opened, asked, trim=True)}


def _onnxruntime_session(asked: dict[str, Any]) -> Callable[[], object]:
    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.runtimes.onnxruntime_package import import_onnxruntime

    onnxruntime = import_onnxruntime("cpu")
    network = ModelBundle.load(asked["bundle"]).model
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    return lambda: onnxruntime.InferenceSession(network, settings, providers=providers)


def _openvino_network(asked: dict[str, Any]) -> Callable[[], object]:
    """In FP32, written and compiled as ctedge does it, but with a core each time; it answers once,
    as golden cases make it.
    """
    import numpy as np

    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.onnx_file.for_cpu import for_openvino
    from ctedge.onnx_file.parts import answers_of
    from ctedge.runtimes.openvino_package import import_openvino
    from ctedge.runtimes.openvino_runtime import compile_options

    openvino, options = import_openvino(), compile_options("fp32", "cpu")
    bundle = ModelBundle.load(asked["bundle"])
    network = for_openvino(answers_of(bundle.model), "fp32")
    air = np.zeros((1, *bundle.input_shape), np.float32)

    def work() -> None:
        core = openvino.Core()
        model = core.read_model(network)
        model.reshape(list(air.shape))
        request = core.compile_model(model, "CPU", options).create_infer_request()
        request.infer([air], share_inputs=False, share_outputs=False)

    return work


def candidates(asked: dict[str, Any]) -> dict[str, Any]:
    """What runs a bundle here, as (runtime, device, precision)."""
    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.runtimes.choice import survey

    verdicts = survey(ModelBundle.load(asked["bundle"]))
    names = [one.candidate for one in verdicts if one.state in ("taken", "works")]
    return {"candidates": [name.rsplit("-", 2) for name in names]}


def _door(asked: dict[str, Any]) -> Any:
    import ctedge

    runtime, device, precision = asked["candidate"]
    kind = getattr(ctedge, asked["door"])
    return kind.load(asked["bundle"], runtime=runtime, device=device, precision=precision)


def _source(asked: dict[str, Any]) -> Any:
    if not str(asked["source"]).endswith(".npy"):
        return asked["source"]
    import numpy as np

    return np.load(asked["source"])


def _sampled(
    work: Callable[[], object], asked: dict[str, Any], *, trim: bool = False
) -> dict[str, Any]:
    """Repeat work as often as is asked, or, from `LEAST` samples on, until the time is used up.

    `trim` lets glibc give back what is free before each look: it keeps a model's megabytes now and
    then, and a leak would hide in that. It is also asked how much of what it holds is in use.
    """
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None) if trim else None
    in_use = _bytes_in_use if trim and hasattr(ctypes.CDLL(None), "mallinfo2") else None
    until = time.monotonic() + asked["seconds"]
    every = max(1, asked["count"] // SAMPLES)
    done, memory, used = list[int](), list[int](), list[int]()
    handles = _handles()
    for number in range(1, asked["count"] + 1):
        work()
        if number % every == 0:
            if give_back:
                give_back(0)
            done.append(number)
            memory.append(_held_bytes())
            if in_use:
                used.append(in_use())
            if time.monotonic() > until and len(done) >= LEAST:
                break
    found = {"done": done, "memory_bytes": memory, "handles_added": _handles_left(handles)}
    return found | ({"in_use_bytes": used} if used else {})


def _held_bytes() -> int:
    """What lies in memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _MallocInfo(ctypes.Structure):
    """What glibc's `mallinfo2` answers (mallinfo(3))."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names.split())


def _bytes_in_use() -> int:
    """What programs were given by glibc and have not freed; what is merely kept is not in it."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _MallocInfo
    told = ask()
    return int(told.uordblks + told.hblkhd)


def _handles() -> int:
    """Open files and threads."""
    return sum(1 for folder in ("fd", "task") for _ in _entries(folder))


def _handles_left(before: int) -> int:
    """How many more there are than before. A thread that was joined may be listed a moment more."""
    until = time.monotonic() + ENDING_S
    while _handles() > before and time.monotonic() < until:
        time.sleep(0.01)
    return max(_handles() - before, 0)  # of those before, one may just have been ending


def _entries(folder: str) -> Iterator[Path]:
    return Path("/proc/self", folder).iterdir()


def main() -> None:
    asked = json.loads(sys.argv[1])
    if asked.get("cpus"):
        os.sched_setaffinity(0, asked["cpus"])
    ways = {way.__name__: way for way in (peak, slope, cycles, sessions, candidates)}
    print(json.dumps(ways[asked["what"]](asked)))


if __name__ == "__main__":
    main()
