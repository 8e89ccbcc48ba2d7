"""What `compare.py` reads: a report of `ctedge bench`, checked here once and for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

#: What a user feels; other stages are shown, and are in the total.
JUDGED = ("inference", "total")

SCHEMA_VERSION = 1

#: A sample is a whole day at most: what is more is no time, and overflows on the way.
_DAY_NS = 86_400 * 10**9

Samples = npt.NDArray[np.float64]
#: By candidate and stage: the samples of each round, in ms.
Measured = dict[str, dict[str, list[Samples]]]


class NotComparable(Exception):
    """Nothing can be said; exit code 2."""


def read_report(path: Path, where: object) -> dict[str, Any]:
    """A report whose runs, judged stages and samples are there; `where` is named in an error.

    Raises:
        NotComparable: there is none, or it is another document.
    """

    def refuse(what: str) -> NoReturn:
        raise NotComparable(f"the report of `ctedge bench` in {where}: {what}")

    try:
        report = json.loads(path.read_bytes())
    except FileNotFoundError:
        refuse("none was written; what follows `--` has to measure something")
    except (ValueError, RecursionError) as error:
        refuse(f"no JSON ({str(error)[:100]})")
    if not isinstance(report, dict):
        refuse(f"a {type(report).__name__}, and no object")
    if report.get("schema_version") != SCHEMA_VERSION:
        refuse(f"schema {report.get('schema_version')!r}, not {SCHEMA_VERSION}")
    bundle, runs = report.get("bundle"), report.get("runs")
    if not isinstance(bundle, dict) or not isinstance(bundle.get("digest"), str):
        refuse("it does not name its bundle's digest")
    if not isinstance(runs, list):
        refuse("it has no list of runs")
    names = []
    for run in runs:
        wrong = _wrong_with(run)
        if wrong is not None:
            refuse(wrong)
        names.append(run["candidate"])
    if len(set(names)) != len(names):
        refuse(f"a candidate twice in {', '.join(names)}")
    return report


def _wrong_with(run: object) -> str | None:
    """What a run lacks of what is compared."""
    if not isinstance(run, dict) or not isinstance(run.get("candidate"), str):
        return "a run without its candidate"
    name, stages = run["candidate"], run.get("stages")
    if not isinstance(stages, dict):
        return f"{name} has no stages"
    missing = [stage for stage in JUDGED if stage not in stages]
    if missing:
        return f"{name} lacks the stage {' and '.join(missing)}"
    for stage, found in stages.items():
        samples = found.get("samples_ns") if isinstance(found, dict) else None
        least = 1 if stage in JUDGED else 0
        if not isinstance(samples, list) or not samples:
            return f"{name} has no samples of {stage}"
        if not all(_is_time(sample, least) for sample in samples):
            return f"a sample of {name}, {stage}, that is no time in nanoseconds"
    return None


def _is_time(sample: object, least: int) -> bool:
    number = isinstance(sample, int | float) and not isinstance(sample, bool)
    return number and least <= sample <= _DAY_NS  # type: ignore[operator]


def gather(into: Measured, report: dict[str, Any]) -> None:
    """Add the samples of a round."""
    for run in report["runs"]:
        stages = into.setdefault(run["candidate"], {})
        for name, stage in run["stages"].items():
            stages.setdefault(name, []).append(np.array(stage["samples_ns"], float) / 1e6)
