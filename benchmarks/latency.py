"""Every peer in the same run, in turns, on the same scans; and ctedge's own budget.

    python benchmarks/latency.py -o benchmarks/results/latency.json --python-torch PYTHON
    python benchmarks/latency_tables.py --write  # the tables of docs/speed.md

PYTHON is an interpreter with torch, monai, torchio and nibabel (default: CTEDGE_PEERS_PYTHON); it
need not have ctedge. CTEDGE_TEST_DATA names the folder with real scans. What is not there stands in
the result as missing, with the reason. Facts only: no path, no host name, no voxel.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import latency_ctedge as alone
import result_file
from latency_inputs import BUNDLE, SEED, Shape, scan_name
from latency_peers import CANDIDATES, PUBLISHED, REFERENCE, Place, Worker, peers
from latency_turns import Row, Scan, cold, reference, warm

from ctedge.bench.machine import BenchMachine

Say = Callable[[str], None]

#: Chests of CTEDGE_TEST_DATA as NIfTI in HU, and what their rows are called.
REAL = (("nifti/covid_chest_raw_hu.nii.gz", "a real chest, COVID-19"),)

PACKAGES = ("scipy", "nibabel", "isal")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is measured.

    Attributes:
        shapes: phantoms, each with turns of every warm peer and whole processes of it.
        real: turns and processes of each real scan.
        budgets: phantoms whose budget is taken of ctedge, the answers of each, and by what: the
            first so many of `latency_ctedge.SWEPT`.
        dicom: the same of phantoms as DICOM series.
        candidates: what ctedge is asked for.
        batches, threads: of the sweeps.
        runs: of the network in each step of the sweeps, and of the start taken apart.
        network_runs: of the network alone, in each turn of each peer.
        bf16: whether the shipped network is brought into bfloat16 first, and gated.
    """

    shapes: tuple[tuple[Shape, int, int], ...]
    real: tuple[int, int]
    budgets: tuple[tuple[Shape, int, int], ...]
    dicom: tuple[tuple[Shape, int, int], ...]
    candidates: tuple[str, ...]
    batches: tuple[int, ...]
    threads: tuple[int, ...]
    runs: int
    network_runs: int
    bf16: bool


#: The first shape of the budgets is as large as the scans of MosMed; the start is timed on it.
FULL = Plan(
    shapes=(((512, 512, 40), 6, 0), ((512, 512, 300), 5, 5), ((512, 512, 750), 3, 0)),
    real=(5, 0),
    budgets=(((512, 512, 41), 100, 2), ((512, 512, 300), 100, 1)),
    dicom=(((512, 512, 41), 100, 1), ((512, 512, 300), 100, 1)),
    candidates=CANDIDATES,
    batches=(1, 2, 4, 8),
    threads=(1, 2, 4),
    runs=10,
    network_runs=5,
    bf16=True,
)

#: What the targets ask for, in a third of the time: fewer turns, no real scan, not 750 slices.
SHORT = replace(
    FULL,
    shapes=(((512, 512, 40), 3, 0), ((512, 512, 300), 3, 3)),
    real=(0, 0),
    budgets=(((512, 512, 41), 60, 2), ((512, 512, 300), 60, 1)),
    dicom=(((512, 512, 300), 60, 1),),
    threads=(1, 2),
)

#: To see that it works: its figures say nothing.
QUICK = Plan(
    shapes=(((48, 48, 20), 1, 1),),
    real=(0, 0),
    budgets=(((48, 48, 20), 2, 1),),
    dicom=(((48, 48, 20), 2, 1),),
    candidates=("onnxruntime-cpu-fp32",),
    batches=(2,),
    threads=(1,),
    runs=1,
    network_runs=1,
    bf16=False,
)


def measured(plan: Plan, place: Place, say: Say) -> dict[str, Any]:
    """All rows, in the order of the tables."""
    scans = [_phantom(place, shape, turns, runs) for shape, turns, runs in plan.shapes]
    scans += _real_scans(plan)
    known = peers(plan.candidates)
    say("loading the peers")
    workers = [Worker(peer, place) for peer in known]
    try:
        say("warm, in turns")
        from_file, network = warm(workers, scans, network_runs=plan.network_runs)
        facts = [worker.facts() for worker in workers]
    finally:
        for worker in workers:
            worker.close()
    say("cold, in turns")
    started = [peer for peer, fact in zip(known, facts, strict=True) if fact["missing"] is None]
    from_start = cold(started, place, scans)
    from_start += [
        Row(peer=fact["peer"], scan=scan.name, missing=fact["missing"])
        for scan in scans
        if scan.cold
        for fact in facts
        if fact["missing"] is not None
    ]
    answers = reference([*from_file, *from_start])
    document = {
        "published": PUBLISHED,
        "reference": REFERENCE,
        "peers": facts,
        "scans": [{"scan": scan.name, "bytes": scan.path.stat().st_size} for scan in scans],
        "warm": [row.to_json(answers) for row in from_file],
        "network": [row.to_json({}) for row in network],
        "cold": [row.to_json(answers) for row in from_start],
    }
    return document | _of_ctedge(plan, place, say)


def _of_ctedge(plan: Plan, place: Place, say: Say) -> dict[str, Any]:
    swept = [peer for peer in peers(plan.candidates) if peer.candidate in alone.SWEPT]
    usual = _phantom(place, plan.budgets[0][0])
    say("ctedge: the start, taken apart")
    start = alone.cold_parts(BUNDLE, usual, plan.runs)
    say("ctedge: budget")
    budgets = [
        alone.budget(BUNDLE, _phantom(place, shape, dicom=dicom), str(peer.candidate), repeats)
        for dicom, wanted in ((False, plan.budgets), (True, plan.dicom))
        for shape, repeats, how_many in wanted
        for peer in swept[:how_many]
    ]
    say("ctedge: batches and threads")
    return {
        "cold_start": start,
        "budget": budgets,
        "batches": [
            row
            for peer in swept
            for row in alone.batch_sweep(peer, place, usual, plan.batches, plan.runs)
        ],
        "threads": [
            row
            for peer in swept
            for row in alone.thread_sweep(peer, place, usual, plan.threads, plan.runs)
        ],
    }


def _phantom(
    place: Place, shape: Shape, turns: int = 0, cold: int = 0, *, dicom: bool = False
) -> Scan:
    path = place.inputs / scan_name(shape, dicom=dicom)
    name = f"{_shape_name(shape)}{', DICOM' if dicom else ''}"
    return Scan(name=name, path=path, turns=turns, cold=cold)


def _shape_name(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _real_scans(plan: Plan) -> Iterator[Scan]:
    from ctedge import read_scan

    turns, runs = plan.real
    folder = result_file.scans()
    if folder is None or not turns:
        return
    for name, label in REAL:
        path = folder / name
        if path.exists():
            shape = _shape_name(read_scan(path).shape)
            yield Scan(name=f"{label}, {shape}", path=path, turns=turns, cold=runs)


def prepare(folder: Path, plan: Plan) -> None:
    """Fill the folder, in another process: TensorFlow and large arrays stay out of this one."""
    shapes = {shape for shape, _, _ in plan.shapes} | {shape for shape, _, _ in plan.budgets}
    script = str(Path(__file__).with_name("latency_inputs.py"))
    command = [sys.executable, script, str(folder), *(["--bf16"] if plan.bf16 else [])]
    for option, wanted in (("--shape", shapes), ("--dicom", {shape for shape, _, _ in plan.dicom})):
        for shape in sorted(wanted):
            command += [option, "x".join(map(str, shape))]
    chatter = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run(command, check=True, env=os.environ | chatter, stdout=subprocess.DEVNULL)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="what the targets ask for, and no more")
    size.add_argument("--quick", action="store_true", help="tiny scans: does it work?")
    parser.add_argument("--cache", type=Path, help="keep scans and networks here for another run")
    parser.add_argument("--python-torch", default=os.environ.get("CTEDGE_PEERS_PYTHON"))
    options = parser.parse_args(words)
    plan = QUICK if options.quick else SHORT if options.short else FULL
    machine = BenchMachine.here()  # first: what follows is load of our own
    begun = time.monotonic()
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:6.0f} s  {line}", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        folder = options.cache
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="latency-")))
        folder.mkdir(parents=True, exist_ok=True)
        say("writing scans and networks")
        prepare(folder, plan)
        rows = measured(plan, Place(inputs=folder, torch=options.python_torch), say)
    document = {
        "quick": options.quick,
        "seed": SEED,
        "started": started,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        **rows,
    }
    torch = options.python_torch
    places = {"TORCH_ENVIRONMENT": Path(torch).parent.parent} if torch else {}
    result_file.write(
        options.output,
        command=result_file.typed(places=places, reads_scans=bool(plan.real[0])),
        machine=machine,
        packages=PACKAGES,
        body=document,
    )
    say(f"written: {options.output}")


if __name__ == "__main__":
    main()
