"""Is this bundle what it says, and does its model still answer as it did?"""

from __future__ import annotations

import os
from collections.abc import Callable

from ctedge.bundle import ModelBundle
from ctedge.errors import GateFailed
from ctedge_export.gate import TOLERANCES
from ctedge_export.onnx_session import OnnxSession


def verify_bundle(
    bundle: str | os.PathLike[str], *, say: Callable[[str], None] | None = None
) -> float:
    """Check every digest, then run the golden cases on ONNX Runtime.

    Args:
        bundle: a bundle's folder, or the name of a shipped one.
        say: told of each step, one line at a time.

    Returns:
        The largest |difference| from the trained network's answers, over all outputs.

    Raises:
        BundleError: the bundle is not what its manifest says.
        GateFailed: it has no golden case, or one is answered otherwise than it was.
    """
    say = say or (lambda line: None)
    verified = ModelBundle.load(bundle)
    count = len(verified.member_names)
    say(f"{verified.name}: manifest {verified.digest[:12]}, {count} members, digests verified")
    session = OnnxSession(verified.model)
    cases = verified.golden()
    largest = 0.0
    for case in cases:
        answers = session.run(case.input[None, None])
        for output, expected in case.outputs.items():
            found = answers[output].item()
            difference = abs(found - expected)
            if not difference <= TOLERANCES[output]:
                raise GateFailed(
                    f"the golden case {case.name!r} of {verified.name} is answered otherwise",
                    found=f"{output} {found:.6g}, off by {difference:.3g}",
                    expected=f"{expected:.6g} within {TOLERANCES[output]:g}",
                    fix="do not use this bundle with this version of ONNX Runtime; report both",
                )
            say(f"golden case {case.name}: {output} {found:.6g}, off by {difference:.2g}")
            largest = max(largest, difference)
    if not cases:
        raise GateFailed(
            f"{verified.name} has no golden case to verify",
            fix="export it again with `ctedge export onnx`",
        )
    return largest
