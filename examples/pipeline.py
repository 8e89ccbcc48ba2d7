"""Judge many scans with the memory of a few: one JSON object a line, in the order of the scans.

    python examples/pipeline.py scan.nii.gz dicom_folder/ ... > answers.jsonl
    find archive -name "*.nii.gz" | python examples/pipeline.py > answers.jsonl

The next scan is read while this one is judged; no other is in memory. A scan that fails is a line
with its error; the others go on. Every line is there as soon as its scan is judged, so a run that
was broken off keeps what it has: give it the rest of the list.
"""

import json
import sys

from ctedge import Classifier, CTEdgeError

if not sys.argv[1:] and sys.stdin.isatty():
    sys.exit(__doc__)
paths = sys.argv[1:] or sys.stdin.read().splitlines()
try:
    with Classifier.load("pneumonia") as classifier:
        # ahead: prepared scans that may wait. More helps only where reading is slow and uneven.
        answers = classifier.predict_iter(paths, ahead=1, errors="return")
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, CTEdgeError):
                document = {"source": path, "error": answer.as_dict()}
            else:
                document = answer.to_json()
            print(json.dumps(document), flush=True)
except CTEdgeError as error:  # no bundle, no runtime
    sys.exit(str(error))
