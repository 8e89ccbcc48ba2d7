"""Fuzzing of the readers: `python tests/fuzz_readers.py --kind nifti --minutes 60 --log LOG`.

Whatever is given, the answer is a scan or one of our errors, soon, in little memory. The cases are
tried in a child process, because a codec in C may end it; it is watched, and what it was doing is
kept in a folder. A log that is there already is gone on with: minutes, of CPU, count over all runs.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fuzz_cases
from ctedge import CTEdgeError, preprocess, read_scan
from ctedge.readers import read_slices
from ctedge.spec import KERAS_EXAMPLE, SEVERITY_STUDY

#: CPU that no damage may cost.
LIMIT_S = 20.0

#: A child that is silent for so long waits for something that never comes.
_SILENCE_S = 1800.0

#: Nor more memory than this, beyond what the files themselves take: a volume of 1024 slices.
LIMIT_BYTES = 1 << 30

#: Seconds between two lines of the log.
_NOTE_S = 60.0

#: One process tries so many cases; then a fresh one goes on, so that no leak adds up.
_CASES_A_CHILD = 2000


def outcome(source: Any, *, deep: bool = False, alone: bool = False) -> str:
    """Read a scan to its last voxel: "scan", or the kind of our error.

    Args:
        source: what `read_scan` takes.
        deep: ask as the two models do first, a plane at a time.
        alone: as slices are read, of which one is enough.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", module="pydicom")
            how: Any = {} if isinstance(source, Path) else {"on_gap": "resample"}  # no NIfTI
            scan = read_slices(source) if alone else read_scan(source, **how)
            if deep:
                for spec in (KERAS_EXAMPLE, SEVERITY_STUDY):
                    assert np.isfinite(preprocess(scan, spec)).all()
            voxels = scan.voxels
    except CTEdgeError as error:
        return _refused(error)
    assert np.isfinite(voxels).all()
    assert voxels.shape == scan.shape
    return "scan"


def _refused(error: CTEdgeError) -> str:
    assert error.fix, "an error that does not say what to do"
    assert "MemoryError" not in str(error), str(error)
    return type(error).__name__


def source_of(case: fuzz_cases.Case, folder: Path) -> Any:
    """The case as `read_scan` takes it: DICOM as open streams, NIfTI as a path."""
    if all(name.endswith(".dcm") for name in case):
        return [io.BytesIO(data) for data in case.values()]
    for name, data in case.items():
        (folder / name).write_bytes(data)
    return folder / next(iter(case))


def cases(kind: str, seed: int, data: Path | None) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """The kind of each case from `seed` on, and the real files it is made of."""
    kinds = fuzz_cases.KINDS[kind]()
    groups = _real_groups(data) if kind == "real" and data is not None else []
    while True:
        yield kinds[seed % len(kinds)], groups[seed % len(groups)] if groups else ()
        seed += 1


def _real_groups(data: Path) -> list[tuple[Path, ...]]:
    """Four neighbours of each folder of DICOM that has as many, single files, and NIfTI files."""
    groups: list[tuple[Path, ...]] = []
    for folder in sorted({path.parent for path in (data / "dicom").rglob("*.dcm")}):
        files = tuple(sorted(folder.glob("*.dcm")))
        middle = len(files) // 2
        alone = folder.name in ("oddities", "transfer_syntaxes") or len(files) < 8
        groups += [(path,) for path in files] if alone else [files[middle : middle + 4]]
    return groups + [(path,) for path in sorted((data / "nifti").glob("*.nii*"))]


# The child


def _peak_bytes() -> int:
    """The most memory that this process had since the mark was reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _child(kind: str, first: int, data: Path | None, results: Any) -> None:
    parent = os.getppid()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process
    with tempfile.TemporaryDirectory() as name:
        for seed, (one, real) in enumerate(cases(kind, first, data), first):
            case = fuzz_cases.damaged(one, seed, real=real)
            signal.setitimer(signal.ITIMER_PROF, 3 * LIMIT_S)
            _reset_peak()
            before, began = _peak_bytes(), time.process_time()
            try:
                source, alone = source_of(case, Path(name)), len(real) == 1
                said = outcome(source, deep=seed % 3 == 0, alone=alone)
            except BaseException:  # noqa: BLE001 - whatever it is, it is what is looked for
                said = f"escaped: {traceback.format_exc()}"
            took, grew = time.process_time() - began, _peak_bytes() - before
            if took > LIMIT_S:
                said = f"slow: {took:.1f} s of CPU, {said}"
            elif grew > LIMIT_BYTES + 8 * sum(map(len, case.values())):
                said = f"memory: {grew >> 20} MiB, {said}"
            results.put((seed, said, took))
            if seed + 1 - first == _CASES_A_CHILD or os.getppid() != parent:
                return


# The parent


class Session:
    """A run over cases, with its log and what it found."""

    def __init__(self, kind: str, log: Path, crashers: Path, data: Path | None, seed: int) -> None:
        self.kind, self.log, self.crashers, self.data = kind, log, crashers, data
        self.seed, self.spent_s, self.said = seed, 0.0, Counter[str]()
        for line in log.read_text().splitlines() if log.exists() else ():
            kept = json.loads(line)
            if kept["kind"] == kind:
                self.seed, self.spent_s = kept["next_seed"], kept["cpu_seconds"]
                self.said = Counter(kept["outcomes"])

    def run(self, minutes: float) -> int:
        """Try cases until the time is over; the number of findings."""
        while self.spent_s < minutes * 60:
            self._batch(minutes * 60)
            self._note()
        return sum(count for said, count in self.said.items() if said.startswith("FOUND"))

    def _batch(self, most_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        results = context.SimpleQueue()
        arguments = (self.kind, self.seed, self.data, results)
        child = context.Process(target=_child, args=arguments, daemon=True)
        child.start()
        heard = noted = time.monotonic()
        while child.is_alive() and self.spent_s < most_s and time.monotonic() - heard < _SILENCE_S:
            if self._take(results):
                heard = time.monotonic()
            if time.monotonic() - noted > _NOTE_S:
                noted = time.monotonic()
                self._note()
            time.sleep(0.05)
        over, silent = self.spent_s >= most_s, child.is_alive()
        if silent:
            child.kill()
        child.join()
        self._take(results)
        if not over and (silent or child.exitcode):
            self._count(self.seed, "silent" if silent else f"exit {child.exitcode}")
            self.seed += 1

    def _take(self, results: Any) -> bool:
        """What the child has to say."""
        heard = False
        while not results.empty():
            seed, said, took = results.get()
            self._count(seed, said)
            self.seed, heard = seed + 1, True
            self.spent_s += took
        return heard

    def _count(self, seed: int, said: str) -> None:
        bad = said.startswith(("escaped", "slow", "memory", "silent", "exit"))
        self.said[f"FOUND {said.partition(':')[0]}" if bad else said] += 1
        if bad:
            kind, real = next(cases(self.kind, seed, self.data))
            folder = self.crashers / f"{self.kind}-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in fuzz_cases.damaged(kind, seed, real=real).items():
                (folder / name).write_bytes(data)
            (folder / "said.txt").write_text(f"{kind} seed {seed}\n{[*map(str, real)]}\n{said}\n")

    def _note(self) -> None:
        line = {
            "kind": self.kind,
            "next_seed": self.seed,
            "cpu_seconds": round(self.spent_s, 1),
            "outcomes": dict(sorted(self.said.items())),
        }
        with self.log.open("a") as log:
            log.write(json.dumps(line) + "\n")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=fuzz_cases.KINDS, required=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="of CPU, over all runs")
    parser.add_argument("--seed", type=int, default=0, help="the first, for a new log")
    parser.add_argument("--log", type=Path, required=True, help="lines of JSON")
    parser.add_argument("--crashers", type=Path, help="default: a folder beside the log")
    parser.add_argument("--data", type=Path, help="for real: the folder of CTEDGE_TEST_DATA")
    chosen = parser.parse_args()
    if chosen.kind == "real" and chosen.data is None:
        parser.error("--kind real needs --data")
    crashers = chosen.crashers or chosen.log.with_suffix(".found")
    session = Session(chosen.kind, chosen.log, crashers, chosen.data, chosen.seed)
    found = session.run(chosen.minutes)
    print(f"{sum(session.said.values())} cases: {dict(session.said.most_common())}")  # noqa: T201
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
