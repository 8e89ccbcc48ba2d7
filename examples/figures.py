"""Draw the figures of the published systems, on synthetic chests, into one folder.

    python examples/figures.py OUTPUT [--patients 40] [--epochs 6]

What it draws:

- montage.png: the slices of a scan, as a radiologist looks at them
- lesions.png: the same with what is truly ill in red, which only a phantom knows
- confidence.txt: the Keras example's two sentences, and the severity
- heat.png: where the answer comes from. Hold it against lesions.png: docs/explanation.md says how
  well such maps point
- curves.png: loss, accuracy and AUC of a small training over its epochs
"""

import argparse
import shutil
from pathlib import Path

from ctedge import Classifier, SeverityRegressor, read_scan
from ctedge.montage import montage_png, sides_known
from ctedge.phantom import draw_patient, render, write_dataset, write_nifti
from ctedge_training.datasets.source import Source
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER
from ctedge_training.train import train

parser = argparse.ArgumentParser()
parser.add_argument("output", type=Path)
parser.add_argument("--patients", type=int, default=40, help="of the small training")
parser.add_argument("--epochs", type=int, default=6, help="of the small training")
options = parser.parse_args()
out = options.output

# A patient with 30 % of the lungs affected. Yours: scan = read_scan("a NIfTI file or DICOM folder")
phantom = render(draw_patient(7, lesion_share=0.3))
scan = read_scan(write_nifti(phantom, out / "synthetic_7.nii.gz"))

# The montage takes HU, axes growing towards Left, Anterior and Superior, as every CTScan has them.
# R and L are written where the scan states how it lies.
known = sides_known(scan)
montage_png(scan.voxels, out / "montage.png", mark_sides=known, caption="SYNTHETIC 7")
montage_png(
    scan.voxels,
    out / "lesions.png",
    overlay=phantom.lesion_mask,
    mark_sides=known,
    caption=f"SYNTHETIC 7 - LESIONS {phantom.score:.0f} %",
)

# The answer, in the published words, and the map that the network draws beside it: the finest is
# drawn in FP32 on ONNX Runtime, and quicker runtimes have a coarse one.
with (
    Classifier.load("pneumonia", runtime="onnxruntime", precision="fp32") as classifier,
    SeverityRegressor.load("severity") as regressor,
):
    answer = classifier.predict(scan, explain=True)
    severity = regressor.predict(scan)
sentences = [
    f"This model is {100 * share:.2f} percent confident that CT scan is {label}"
    for label, share in answer.confidences.items()
]
sentences.append(f"Severity {severity.score:.1f} of 100: {severity.category}, CTSI {severity.ctsi}")
(out / "confidence.txt").write_text("\n".join(sentences) + "\n")
print(*sentences, sep="\n")
if (where := answer.explanation) is not None:  # None where it was not asked for
    where.write_overlay(out / "heat.png", caption=f"{where.method}: {answer.label}")

# A small training: a minute or two. Every run folder holds its curves.
#    ctedge train phantoms OUTPUT/data --count 40 --shape 64x64x46 --seed 1
#    ctedge train classifier OUTPUT/data --grid 46x46x46 --epochs 6 -o OUTPUT/run
write_dataset(out / "data", count=options.patients, seed=1, shape=(64, 64, 46))
settings = Settings(epochs=options.epochs, grid=(46, 46, 46), learning_rate=1e-3)
run = train(CLASSIFIER, Source(folder=out / "data"), out / "run", settings=settings)
shutil.copy(run.folder / "curves.png", out / "curves.png")
