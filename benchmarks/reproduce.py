"""The published systems, run whole: one command a system, one result file.

    python benchmarks/reproduce.py keras-example -o benchmarks/results/keras-example.json
    python benchmarks/reproduce.py hrct-study    -o benchmarks/results/hrct-study.json
    python benchmarks/reproduce.py covid-slices  -o benchmarks/results/covid-slices.json
    python benchmarks/reproduce.py ablation      -o benchmarks/results/ablation.json

The real data sets are large and licensed, so the first two and the ablation run on phantoms laid
out as the originals; covid-slices runs on the COVID-CT pictures where CTEDGE_TEST_DATA names them.
Everything lies in --work; the same command goes on after an interruption. Sizes are those of a
machine without a GPU; --full takes the published ones.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import result_file

from ctedge.bench.machine import BenchMachine
from ctedge.files import write_atomic
from ctedge.phantom import write_dataset, write_studies
from ctedge_training.recipes import PUBLISHED_FIGURES

SHAPE = (128, 128, 64)
SEEDS = (1, 2, 3)
#: Of the phantoms of keras-example, and of those that it is tested on; of the studies.
COUNT, TEST_COUNT, STUDIES = 200, 100, 210
#: CTSI-like score (percent of the lungs) of the slightest phantoms of the ablation.
LEAST_SCORE = 10
PACKAGES = ("keras", "tensorflow-cpu", "tensorflow", "jax", "torch", "scipy")


class Work:
    """A folder, the commands that were run in it, and their result folders."""

    def __init__(self, folder: Path, *, scans: Path | None, full: bool, extra: list[str]) -> None:
        self.folder = folder
        self.scans = scans
        self.full = full
        self.extra = extra
        self.commands: list[str] = []

    def ctedge(self, *arguments: object) -> None:
        words = [str(argument) for argument in arguments]
        self.commands.append(self.readable("ctedge", *words))
        print("$", self.commands[-1], flush=True)
        subprocess.run([sys.executable, "-m", "ctedge", *words], check=True)

    def train(self, name: str, *arguments: object) -> Path:
        """A training, gone on with where it was interrupted, and kept where it is finished."""
        run = self.folder / name
        again = ["--resume"] if run.exists() else []
        self.ctedge("train", *arguments, "-o", run, *self.extra, *again)
        self.commands[-1] = self.commands[-1].removesuffix(" --resume")
        return run

    def judge(self, run: Path, data: Path, split: str, *arguments: object) -> dict[str, Any]:
        report = run.with_name(f"{run.name}-{split}")
        data_arguments = ("--data", data, "--split", split, "-o", report)
        self.ctedge("train", "evaluate", run, *data_arguments, *arguments)
        document: dict[str, Any] = json.loads((report / "report.json").read_text())
        return {"split": split, "metrics": document["metrics"]}

    def readable(self, *words: str) -> str:
        """A command without this machine's paths."""
        text = shlex.join(words).replace(str(self.folder), "WORK")
        return text if self.scans is None else text.replace(str(self.scans), "DATA")


def run_facts(run: Path) -> dict[str, Any]:
    """What a run folder says of a complete training."""
    document = json.loads((run / "model.json").read_text())
    training = document["training"]
    kept = ("seed", "epochs", "epochs_run", "best_epoch", "best_val_loss", "batch_size", "patience")
    return {
        "name": run.name,
        "task": document["task"],
        "grid": document["input_shape"],
        "labels": document["labels"],
        "threshold": document["threshold"],
        "training": {key: training[key] for key in kept}
        | {
            "stopped_early": training["epochs_run"] < training["epochs"],
            "wall_seconds": training["wall_seconds"],
            "start": training.get("imagenet") or training.get("start_from") or "random weights",
        },
        "data": document["data"],
        "versions": document["versions"],
        "history": (run / "history.csv").read_text().splitlines(),
    }


def keras_example(work: Work) -> dict[str, Any]:
    """Normal and abnormal phantoms in the folders of the example, half of each; others to test."""
    data, test = work.folder / "MosMedData", work.folder / "test"
    phantoms, workers = work.folder / "phantoms", os.cpu_count() or 1
    write_dataset(phantoms, count=COUNT, seed=21, shape=SHAPE, workers=workers)
    for line in (phantoms / "labels.csv").read_text().splitlines()[1:]:
        name, label, *_ = line.split(",")
        target = data / ("CT-0" if label == "normal" else "CT-23") / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            os.link(phantoms / name, target)
    only_test = (0.0, 0.0, 1.0)
    write_dataset(test, count=TEST_COUNT, seed=22, shape=SHAPE, split=only_test, workers=workers)
    grid = () if work.full else ("--grid", "64x64x46")
    runs = []
    for preset in ("published", "writeup"):
        run = work.train(preset, "classifier", data, "--preset", preset, "--seed", 1, *grid)
        judged = [work.judge(run, data, "validation"), work.judge(run, test, "test")]
        runs.append(run_facts(run) | {"preset": preset, "judged": judged})
    return {
        "data": f"{COUNT} phantoms in CT-0 and CT-23, 70/30; {TEST_COUNT} others to test",
        "published": PUBLISHED_FIGURES["classifier", "published"],
        "runs": runs,
    }


def hrct_study(work: Work) -> dict[str, Any]:
    """Synthetic DICOM studies with masks: 170 to train, 40 to validate, as in the report."""
    data, store = work.folder / "studies", work.folder / "store"
    write_studies(data, count=STUDIES, seed=23, shape=SHAPE, workers=os.cpu_count() or 1)
    grid = () if work.full else ("--grid", "46x64x64")
    lungs = ("--spec", "severity-study-lungs")
    work.ctedge("train", "prepare", data, "-o", store, *lungs, *grid, "--hdf5")
    runs = []
    for task in ("classifier", "severity"):
        run = work.train(task, task, store, "--preset", "hrct", "--seed", 1)
        judged = [work.judge(run, store, split) for split in ("train", "validation")]
        runs.append(run_facts(run) | {"preset": "hrct", "judged": judged})
    return {
        "data": f"{STUDIES} synthetic DICOM studies, 125 with lesions, true lung masks",
        "published": PUBLISHED_FIGURES["classifier", "hrct"]
        | PUBLISHED_FIGURES["severity", "hrct"],
        "runs": runs,
    }


def covid_slices(work: Work) -> dict[str, Any]:
    """746 pictures, another split and other weights a seed."""
    assert work.scans is not None, result_file.NO_SCANS
    data = work.scans / "covid_ct_2d"
    grid = () if work.full else ("--grid", "160x160")
    classes = ("--classes", "CT_NonCOVID,CT_COVID")
    cache = ("--cache", work.folder / "cache")
    runs = []
    for seed in SEEDS:
        split = ("--split-seed", seed, *classes, *cache)
        run = work.train(f"slices-{seed}", "slices", data, "--seed", seed, *split, *grid)
        judged = [work.judge(run, data, "test", *split)]
        runs.append(run_facts(run) | {"preset": "published", "judged": judged})
    return {
        "data": "COVID-CT (UCSD): 349 COVID and 397 other pictures cut from papers; whose they are"
        " is not known, so a patient may stand on both sides of a split",
        "published": PUBLISHED_FIGURES["slices", "published"],
        "over_seeds": {
            name: spread([run["judged"][0]["metrics"][name]["value"] for run in runs])
            for name in ("accuracy", "auc", "sensitivity", "specificity", "loss")
        },
        "runs": runs,
    }


def ablation(work: Work) -> dict[str, Any]:
    """700 phantoms at the smallest grid, where lesions of a tenth of the lungs can be seen.

    Without those of less, abnormal phantoms are the rare class: about one in three.
    """
    data = work.folder / "phantoms"
    split = (0.4, 0.15, 0.45)
    table = write_dataset(
        data, count=700, seed=31, shape=SHAPE, split=split, workers=os.cpu_count() or 1
    )
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = [row for row in rows if row["label"] == "normal" or float(row["score"]) >= LEAST_SCORE]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    labels = write_atomic(work.folder / "labels.csv", text.getvalue())
    out = work.folder / "runs"
    arguments = ("--labels", labels, "--epochs", 5, "--learning-rate", 0.001, *work.extra)
    work.ctedge("train", "ablate", data, "-o", out, "--seeds", len(SEEDS), *arguments)
    document: dict[str, Any] = json.loads((out / "ablation.json").read_text())
    return {
        "data": f"{len(kept)} phantoms, normal or with at least {LEAST_SCORE} % of the lungs"
        " affected",
        "scans": {
            part: {
                label: sum((row["label"], row["split"]) == (label, part) for row in kept)
                for label in ("normal", "abnormal")
            }
            for part in ("train", "validation", "test")
        },
        **result_file.without_header(document),
    }


def spread(values: list[float]) -> dict[str, Any]:
    mean = sum(values) / len(values)
    deviation = (sum((v - mean) ** 2 for v in values) / max(1, len(values) - 1)) ** 0.5
    return {"values": values, "mean": mean, "deviation": deviation}


COVID_SLICES = "covid-slices"
SYSTEMS: dict[str, Callable[[Work], dict[str, Any]]] = {
    "keras-example": keras_example,
    "hrct-study": hrct_study,
    COVID_SLICES: covid_slices,
    "ablation": ablation,
}


def command_of(options: argparse.Namespace) -> str:
    """Without where it lay, and what it was told to note."""
    sizes = {"--full": options.full, "--mixed-precision": options.mixed_precision}
    words = ["benchmarks/reproduce.py", options.system]
    words += ["-o", f"benchmarks/results/{options.system}.json"]
    words += [option for option, given in sizes.items() if given]
    return result_file.typed(words=words, reads_scans=options.system == COVID_SLICES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="default: reproduce/SYSTEM")
    parser.add_argument("--full", action="store_true", help="the published sizes; wants a GPU")
    parser.add_argument("--fresh", action="store_true", help="start anew")
    parser.add_argument("--mixed-precision", action="store_true")
    parser.add_argument("--note", help="what the result file should say of the circumstances")
    options = parser.parse_args()
    scans = result_file.scans()
    if scans is None and options.system == COVID_SLICES:
        parser.error(result_file.NO_SCANS)
    machine = BenchMachine.here()
    folder = (options.work or Path("reproduce") / options.system).resolve()
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    extra = ["--mixed-precision"] if options.mixed_precision else ["--full-precision"]
    work = Work(folder, scans=scans, full=options.full, extra=extra)
    result = SYSTEMS[options.system](work)
    body = {
        "system": options.system,
        "note": options.note,
        "reduced_size": not options.full,
        "commands": work.commands,
        **result,
    }
    result_file.write(
        options.output,
        command=command_of(options),
        machine=machine,
        packages=PACKAGES,
        body=body,
    )
    print(f"{options.output} written")


if __name__ == "__main__":
    main()
