"""Is this bundle what it says, and does its model still answer as it did?"""

from __future__ import annotations

import os
from collections.abc import Callable

from ctedge.bundle import ModelBundle
from ctedge.runtimes import open_runtime
from ctedge.verification import check_golden


def verify_bundle(
    bundle: str | os.PathLike[str], *, say: Callable[[str], None] | None = None
) -> float:
    """Check every digest, then run the golden cases on the runtime that prediction would use.

    Args:
        bundle: a bundle's folder, or the name of a shipped one.
        say: told of each step, one line at a time.

    Returns:
        The largest |difference| from the trained network's answers, over all outputs.

    Raises:
        BundleError: the bundle is not what its manifest says.
        GateFailed: it has no golden case, or one is answered otherwise than it was.
        RuntimeUnavailable: nothing here runs it.
    """
    say = say or (lambda line: None)
    verified = ModelBundle.load(bundle)
    count = len(verified.member_names)
    say(f"{verified.name}: manifest {verified.digest[:12]}, {count} members, digests verified")
    runtime = open_runtime(verified)
    try:
        cases, largest = check_golden(verified, runtime)
    finally:
        runtime.close()
    say(f"{cases} golden cases on {runtime.name}: answers at most {largest:.2g} apart")
    return largest
