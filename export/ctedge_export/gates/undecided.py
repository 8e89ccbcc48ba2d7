"""The inputs where rounding shows most: chests with disease so faint that a network is undecided.

Which they are depends on the network, so they are searched for, whichever network it is. What is
given to every precision and engine besides is in `inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ctedge.spec import Spec
from ctedge_export.gates.inputs import GateInput, Twins, gate_input, gate_twins
from ctedge_export.gates.runners import Runner

#: The share of a diseased chest in a mixture with its healthy twin is found to 2^-6, a hundredth
#: and a half; what a network is least sure of it is as unsure of within that.
_HALVINGS, _EVEN = 6, 0.5


def undecided_inputs(runner: Runner, spec: Spec, *, task: str) -> tuple[GateInput, ...]:
    """The chests of `gate_inputs` that a network may be undecided about, faded until it is.

    Args:
        runner: the FP32 network.
        spec: of its inputs.
        task: of its bundle; a score is as steep everywhere, and has none.
    """
    if task == "severity":
        return ()

    def probability(shown: GateInput) -> float:
        return float(runner.run(shown.batch)["probability"].item())

    return undecided(gate_twins(spec), probability)


def undecided(
    twins: Iterable[Twins], probability: Callable[[GateInput], float]
) -> tuple[GateInput, ...]:
    """Chests with disease so faint that a network is of two minds.

    The two of a patient are mixed voxel by voxel, which is what partial volume does: the lesions
    fade, all else stays, noise too. The mixture is found by halving where the probability crosses
    1/2. There a sigmoid is steepest, so that is where rounding shows most; where an answer is
    0.998, hardly any does. A patient on whom the network never changes sides is left out.

    Args:
        twins: the healthy one first.
        probability: the FP32 network's answer.
    """
    found = []
    for healthy, diseased in twins:
        if not probability(healthy) < _EVEN <= probability(diseased):
            continue
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = probability(_mixed(healthy, diseased, middle)) < _EVEN
            low, high = (middle, high) if below else (low, middle)
        found.append(_mixed(healthy, diseased, (low + high) / 2))
    return tuple(found)


def _mixed(healthy: GateInput, diseased: GateInput, share: float) -> GateInput:
    values = (1 - share) * healthy.values + share * diseased.values
    mixture = gate_input(f"undecided-{diseased.name}", values, diseased.spec)
    return replace(mixture, undecided=True)
