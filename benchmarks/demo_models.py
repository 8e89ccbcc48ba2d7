"""What is said of the demo models: one result file, and the notes of their model cards.

    python benchmarks/demo_models.py WORK BUNDLES -o benchmarks/results/demo-models.json

WORK holds the run folders of `training/demo_models.sh`; BUNDLES holds pneumonia.ctedge and
severity.ctedge exported from them. Writes notes.md into BUNDLES, for `--card-notes`. Real scans are
judged where CTEDGE_TEST_DATA names their folder, and left out elsewhere; nothing is tuned to them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import result_file

from ctedge import Classifier, CTScan, SeverityRegressor, read_scan
from ctedge.bench.machine import BenchMachine
from ctedge.files import write_atomic
from ctedge.run_folder import read_run

PACKAGES = ("nibabel", "pydicom", "imagecodecs")

ROLES = {
    "classifier": "c3",
    "severity": "s4",
    "severity, before its last epochs": "s3",
    "shuffled labels": "shuffled",
}


def real_scans(folder: Path) -> dict[str, CTScan]:
    """The two real chests: what they are, and the scan."""
    return {
        "COVID-positive chest (MIDRC-RICORD-1A, 124 slices)": read_scan(
            folder / "dicom" / "covid_chest"
        ),
        "chest without COVID (TCGA-LIHC, acquisition 2, 59 slices)": read_scan(
            folder / "dicom" / "noncovid_chest_two_acquisitions", acquisition=2
        ),
    }


def judge(scans: dict[str, CTScan], bundles: Path) -> dict[str, Any]:
    with (
        Classifier.load(bundles / "pneumonia.ctedge", precision="fp32") as classifier,
        SeverityRegressor.load(bundles / "severity.ctedge", precision="fp32") as regressor,
    ):
        answers = {}
        for name, scan in scans.items():
            verdict, severity = classifier.predict(scan), regressor.predict(scan)
            answers[name] = {
                "label": verdict.label,
                "probability": round(verdict.probability, 4),
                "score": round(severity.score, 1),
                "category": severity.category,
            }
        return answers


def metric(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['value']:.3f} (95 % interval {low:.3f} to {high:.3f})"


def notes(document: dict[str, Any]) -> str:
    lines = [
        "### How hard the phantoms are",
        "",
        f"- Logistic regression on the mean HU of the true lung mask: AUC "
        f"{metric(document['mean_lung_hu']['auc'])} over "
        f"{document['mean_lung_hu']['phantoms']['count']} phantoms.",
        f"- The same network trained on permuted labels, at "
        f"{'x'.join(map(str, document['runs']['shuffled labels']['grid']))}: AUC "
        f"{metric(document['runs']['shuffled labels']['metrics']['auc'])} on the same test set.",
    ]
    if not document["real_chests"]:
        return "\n".join(lines) + "\n"
    lines += [
        "",
        "### Two real chests",
        "",
        "Never used for training, choice or tuning. The networks have seen phantoms only, so these",
        "answers say how they behave outside their world, not how a patient is.",
        "",
    ]
    for name, answer in document["real_chests"].items():
        lines.append(
            f"- {name}: {answer['label']} with probability {answer['probability']:.4f} of"
            f" abnormal; score {answer['score']:.1f} ({answer['category']})."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("bundles", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    machine = BenchMachine.here()
    scans = result_file.scans()
    runs = {role: read_run(options.runs / name) for role, name in ROLES.items()}
    document = {
        "runs": {
            role: {
                "task": run.task,
                "grid": list(run.spec.shape),
                "training": run.document["training"],
                "data": run.document["data"],
                "metrics": run.document["metrics"],
                "versions": run.document["versions"],
            }
            for role, run in runs.items()
        },
        "mean_lung_hu": result_file.without_header(result_file.read("phantom-difficulty")),
        "real_chests": judge(real_scans(scans), options.bundles) if scans else {},
    }
    result_file.write(
        options.output,
        command=result_file.typed(
            places={"WORK": options.runs, "BUNDLES": options.bundles}, reads_scans=True
        ),
        machine=machine,
        packages=PACKAGES,
        body=document,
    )
    text = notes(document)
    write_atomic(options.bundles / "notes.md", text)
    print(text)


if __name__ == "__main__":
    main()
