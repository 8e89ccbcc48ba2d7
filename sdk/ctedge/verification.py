"""Does a bundle's network, on the runtime it would run on here, still answer as it was trained?"""

from __future__ import annotations

import numpy as np

from ctedge.bundle import ModelBundle
from ctedge.errors import GateFailed
from ctedge.runtimes import Runtime
from ctedge.tensor import network_batch

#: Largest |difference| from a golden answer, by output: the same that the export's gate allows.
#: logit: float32 rounding through 18 nodes gives about 1e-6; 1e-4 moves a probability by at most
#: 2.5e-5, a hundredth of what decides any label.
#: score: the same 1e-4 relative to its scale of 0 to 100; a CTSI step is 4, a category 20.
#: probability: that of the logit through a sigmoid, whose slope is at most 1/4, and rounding.
TOLERANCES = {"logit": 1e-4, "score": 1e-2, "probability": 2.6e-5}


def check_golden(bundle: ModelBundle, runtime: Runtime) -> tuple[int, float]:
    """Run a bundle's golden cases on a runtime.

    Returns:
        How many cases there are, and the largest |difference| from the trained network's answers.

    Raises:
        GateFailed: there is no golden case, or one is answered otherwise than it was.
    """
    cases = bundle.golden()
    if not cases:
        raise GateFailed(
            f"{bundle.name} has no golden case to check",
            fix="export it again with `ctedge export onnx`",
        )
    largest = 0.0
    for case in cases:
        answers = runtime.run(network_batch(case.input[np.newaxis], bundle.spec))
        for output, expected in case.outputs.items():
            found = float(answers[output].reshape(-1)[0])
            difference = abs(found - expected)
            if not difference <= TOLERANCES[output]:
                raise GateFailed(
                    f"the golden case {case.name!r} of {bundle.name} is answered otherwise",
                    found=f"{output} {found:.6g}, off by {difference:.3g}",
                    expected=f"{expected:.6g} within {TOLERANCES[output]:g}",
                    fix=f"do not use this bundle on {runtime.name} here; report both versions",
                )
            largest = max(largest, difference)
    return len(cases), largest
