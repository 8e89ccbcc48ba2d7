"""How far one number gets: logistic regression on mean lung HU, against the phantoms' truth.

A data set whose classes differ in mean lung density alone would be a toy. Run it with

    python benchmarks/phantom_difficulty.py -o benchmarks/results/phantom-difficulty.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import result_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from ctedge.bench.machine import BenchMachine
from ctedge.phantom import draw_patient, render
from ctedge_training.judging.metrics import metrics_of
from ctedge_training.tasks import CLASSIFIER

PACKAGES = ("scikit-learn",)

GRID = (128, 128, 64)
FIRST_SEED = 50_000  # far from the seeds of the training sets
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    machine = BenchMachine.here()
    mean_hu, abnormal = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + options.count):
        phantom = render(draw_patient(seed), shape=GRID)
        mean_hu.append(float(phantom.voxels[phantom.lung_mask].mean()))
        abnormal.append(phantom.label == "abnormal")
    truth = np.array(abnormal, int)
    feature = (np.array(mean_hu) - np.mean(mean_hu))[:, None] / np.std(mean_hu)
    odds = cross_val_predict(
        LogisticRegression(), feature, truth, cv=FOLDS, method="predict_proba"
    )[:, 1]
    document = {
        "what": f"logistic regression on mean HU inside the true lung mask, {FOLDS}-fold",
        "phantoms": {"count": options.count, "first_seed": FIRST_SEED, "grid": GRID},
        "abnormal": int(truth.sum()),
        "auc": metrics_of(CLASSIFIER, truth, odds)["auc"],
        "mean_lung_hu": {
            name: round(float(np.mean(np.array(mean_hu)[truth == value])), 1)
            for name, value in (("normal", 0), ("abnormal", 1))
        },
    }
    result_file.write(
        options.output,
        machine=machine,
        packages=PACKAGES,
        body=document,
    )
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
