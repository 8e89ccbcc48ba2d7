"""The job with ctedge, on what it chooses or on the candidate that is named.

python benchmarks/peers/ctedge_script.py BUNDLE SCAN.nii.gz [openvino-cpu-int8]
"""

import sys

from ctedge import Classifier

PACKAGES = ("ctedge", "onnxruntime", "openvino", "numpy")


def named(candidate):
    """The options that ask for a candidate; none for "auto"."""
    if candidate == "auto":
        return {}
    return dict(zip(("runtime", "device", "precision"), candidate.rsplit("-", 2), strict=True))


def load(bundle, candidate="auto"):
    return Classifier.load(bundle, **named(candidate))


def predict(classifier, source):
    """It reads, prepares and infers, and says itself how long each took."""
    return classifier.predict(source)


if __name__ == "__main__":
    with load(sys.argv[1], *sys.argv[3:]) as classifier:
        print(f"abnormal {predict(classifier, sys.argv[2]).probability:.6f}")
