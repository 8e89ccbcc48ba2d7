"""Embed ctedge in scanner-side software: load once, warm up, judge every scan that arrives.

Run it with the paths of NIfTI files or DICOM folders:

    python examples/embed.py scan.nii.gz another.nii.gz
"""

import sys

from ctedge import Classifier, CTEdgeError

paths = sys.argv[1:] or sys.exit(__doc__)
with Classifier.load("pneumonia") as classifier:  # every digest is checked here
    classifier.warm_up()  # proves what it answers here, and the first patient is not the slow one
    for path in paths:
        try:
            answer = classifier.predict(path)
        except CTEdgeError as error:  # says what was found, what was expected, what to do
            print(f"{path}: not judged\n{error}", file=sys.stderr)
            continue
        print(f"{path}: {answer.label} {answer.probability:.4f} in {answer.timings_ms['total']} ms")
