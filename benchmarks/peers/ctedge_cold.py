"""One cold answer of ctedge, taken apart: when each part was done, on the system's clock.

    python benchmarks/peers/ctedge_cold.py BUNDLE SCAN.nii.gz onnxruntime-cpu-fp32

Prints {"done": {part: seconds}, "ms": stages that the answer itself reports} as JSON. What `ctedge`
would import on the way is imported first, so that reading is reading.
"""

import time

DONE = {"interpreter": time.monotonic()}

import json  # noqa: E402 - the clock comes first
import sys  # noqa: E402
from typing import Any  # noqa: E402


def main() -> None:
    bundle, scan, candidate = sys.argv[1:]
    import numpy

    DONE[f"import {numpy.__name__}"] = time.monotonic()
    from ctedge import Classifier, ModelBundle
    from ctedge.runtimes import choice, open_runtime

    DONE[f"import {choice.__name__.partition('.')[0]}"] = time.monotonic()
    parts = candidate.rsplit("-", 2)
    named: Any = dict(zip(("runtime", "device", "precision"), parts, strict=True))
    __import__(named["runtime"])
    DONE["import the runtime"] = time.monotonic()
    verified = ModelBundle.load(bundle)
    DONE["verify the bundle"] = time.monotonic()
    opened = open_runtime(verified, **named)
    DONE["open the session"] = time.monotonic()
    with Classifier(verified, opened) as classifier:
        prediction = classifier.predict(scan)
        DONE["predict"] = time.monotonic()
    DONE["close"] = time.monotonic()
    print(json.dumps({"done": DONE, "ms": prediction.timings_ms}), flush=True)


if __name__ == "__main__":
    main()
