"""A whole benchmark: the input, the machine, every runtime that ran, and why others did not."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ctedge.bench.candidates import candidates
from ctedge.bench.machine import BenchMachine
from ctedge.bench.measure import Run, measure
from ctedge.bench.settings import Settings
from ctedge.bench.shown import shown_to
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.doors.by_task import door_class
from ctedge.errors import (
    BundleError,
    CTEdgeError,
    InferenceFailed,
    InputError,
    RuntimeUnavailable,
)
from ctedge.runtimes import Device, RuntimeName
from ctedge.runtimes.candidate import Candidate
from ctedge.runtimes.choice import Verdict, choose, load, refusal, refusal_of_all

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What `bench` found.

    Attributes:
        bundle, digest: the model.
        shape: of the scan, voxels along Left, Anterior, Superior; None for a picture.
        in_memory: a phantom was rendered and nothing is read; else SCAN, read anew each time.
        settings: how often.
        machine: as it was before the first run.
        runs: each runtime that answered, in the order it was measured.
        refused: those that did not, where all were asked for.
        started: when, in UTC.
        lost: the error of a scan that vanished or changed half-way: `runs` has those before. Its
            words may name a patient, and are not in the JSON.
    """

    bundle: str
    digest: str
    shape: tuple[int, int, int] | None
    in_memory: bool
    settings: Settings
    machine: BenchMachine
    runs: tuple[Run, ...]
    refused: tuple[Verdict, ...]
    started: str
    lost: InputError | None = None

    def to_json(self, *, command: Sequence[str] = ()) -> dict[str, Any]:
        """All of it as plain JSON values, without the path of the scan, which may name a patient.

        Args:
            command: the words that ask for this again.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "command": list(command),
            "started": self.started,
            "bundle": {"name": self.bundle, "digest": self.digest},
            "input": {
                "kind": "phantom in memory" if self.in_memory else "file",
                "shape": None if self.shape is None else list(self.shape),
            },
            "settings": asdict(self.settings),
            "machine": self.machine.to_json(),
            "warnings": list(self.machine.warnings()),
            "runs": [run.to_json() for run in self.runs],
            "refused": [asdict(verdict) for verdict in self.refused],
        }


def bench(  # noqa: PLR0913 - one keyword an independent choice
    bundle: str | Path,
    source: str | Path | None = None,
    *,
    every: bool = False,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
    reading: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Report:
    """Measure a bundle on this machine, in this process, one runtime after the other.

    Args:
        bundle: a folder NAME.ctedge, or the bare name of a shipped bundle.
        source: a scan or picture, read anew for every answer; None renders a phantom into memory.
        every: all candidates that fit what is named and open here; else the one that is chosen.
        device, runtime, precision: as `ctedge.runtimes.open_runtime` takes them; what is named is
            strict. With `every`, the device "auto" means all there are, also an Intel GPU.
        reading: options of `read_scan` by their names, for a scan of DICOM.
        settings: how often.
        say: is told what goes on.

    Raises:
        BundleError: not there, damaged, or a bundle that judges no scan.
        RuntimeUnavailable: what is named, or everything, cannot be had here.
        InputError: the scan cannot be read or judged, and nothing was measured yet.
        InferenceFailed: of the only runtime.
    """
    asked = settings or Settings()
    machine = BenchMachine.here()  # first: what follows is load of our own
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    verified = ModelBundle.load(bundle)
    kind = door_class(verified)
    wanted: Sequence[Candidate | None] = [None]  # what is chosen
    if every:
        wanted = candidates(verified, device=device, runtime=runtime, precision=precision)
    say("rendering a synthetic scan" if source is None else "reading the scan")
    shown = shown_to(verified, source, reading or {})

    def run(one: Candidate | None) -> Run:
        start = time.perf_counter()
        if one is None:
            choice = choose(verified, device=device, runtime=runtime, precision=precision)
        else:
            choice = load(verified, one, precision=precision)
        load_ms = (time.perf_counter() - start) * 1e3
        say(f"measuring {choice.runtime.name}")
        with kind(verified, choice.runtime) as door:
            return measure(
                door,
                choice.runtime,
                shown,
                asked,
                loaded=next(found.reason for found in choice.verdicts if found.state == "taken"),
                load_ms=load_ms,
            )

    runs: list[Run] = []
    refused: list[Verdict] = []
    errors: list[CTEdgeError] = []
    lost: InputError | None = None
    for place, one in enumerate(wanted):
        try:
            runs.append(run(one))
        except InputError as error:
            if not runs:
                raise
            lost = error.with_traceback(None)  # it holds what was loaded
            refused += [_not_tried(left, error) for left in wanted[place:] if left is not None]
            break
        except (RuntimeUnavailable, InferenceFailed, BundleError) as error:
            if one is None:
                raise
            refused.append(refusal(one, error))
            errors.append(error.with_traceback(None))  # as above
    if not runs:
        raise refusal_of_all(verified, [one for one in wanted if one is not None], errors)
    return Report(
        bundle=verified.name,
        digest=verified.digest,
        shape=shown.shape,
        in_memory=shown.in_memory,
        settings=asked,
        machine=machine,
        runs=tuple(runs),
        refused=tuple(refused),
        started=started,
        lost=lost,
    )


def _not_tried(candidate: Candidate, error: InputError) -> Verdict:
    """Without the error's own words, which name the scan."""
    kind = error.as_dict()["type"]
    reason = f"the scan could not be judged any more ({kind})"
    return Verdict(candidate=candidate.name, state="not tried", reason=reason)
