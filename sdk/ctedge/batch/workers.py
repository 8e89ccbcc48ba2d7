"""What a worker process does: it holds one loaded model, and judges one scan after another."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ctedge
from ctedge.batch.cores import claim_cores
from ctedge.doors.chosen import predict_chosen
from ctedge.errors import CTEdgeError, DeviceLost, DigestMismatch, RuntimeUnavailable, WorkerLost
from ctedge.runtimes import Device, RuntimeName

#: A scan whose worker died is judged once more, by another process.
ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every worker is told.

    Attributes:
        bundle: the name of a shipped bundle, or a path that is the same on every machine.
        model, model_digest: what that bundle has to be.
        device, runtime, precision: as `Classifier.load` takes them.
        assess, strict: as `Classifier.predict` takes them.
        version: of ctedge.
    """

    bundle: str
    model: str
    model_digest: str
    device: Device = "auto"
    runtime: RuntimeName | None = None
    precision: str | None = None
    assess: bool = False
    strict: bool = False
    version: str = ctedge.__version__

    def record(self) -> dict[str, Any]:
        """What answers depend on, as plain JSON values; where the bundle lies is not of it."""
        return {name: value for name, value in asdict(self).items() if name != "bundle"}


class Attempts:
    """How often each scan was begun; lives in a process that no scan can kill."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, index: int) -> int:
        """Which attempt at this scan it is, from 1."""
        self._begun[index] += 1
        return self._begun[index]


class Judge:
    """One loaded model. It is loaded with the first scan, so that a death of that counts too.

    Args:
        plan: a `Plan` as plain values.
        threads: of the runtime.
        attempts: the handle of an `Attempts`.
    """

    def __init__(self, plan: dict[str, Any], threads: int, attempts: Any) -> None:
        self._plan, self._threads, self._attempts = Plan(**plan), threads, attempts
        self._door: Any = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """What came of one scan: {"answer": …}, {"error": …}, or {"fatal": …} for all of them."""
        import ray

        index = int(row["index"])
        attempt = ray.get(self._attempts.begin.remote(index))
        if attempt > ATTEMPTS:
            return {"index": index, "outcome": json.dumps({"error": described(lost())})}
        try:
            outcome = self.judge(str(row["path"]), json.loads(row["reading"]))
            return {"index": index, "outcome": json.dumps(outcome)}
        except DeviceLost:
            # Ray starts another process, for which the device may be well, and gives it this scan.
            os._exit(1)

    def judge(self, path: str, reading: Mapping[str, Any]) -> dict[str, Any]:
        """The same for the scan at a path, whatever happened to it before.

        Args:
            path: of the scan.
            reading: options of `read_scan`, by their names.

        Raises:
            DeviceLost: this process has no more answers to give.
        """
        try:
            door = self._load()
        except CTEdgeError as error:
            return {"fatal": error.as_dict()}
        try:
            asked = {"assess": self._plan.assess, "strict": self._plan.strict}
            return {"answer": predict_chosen(door, path, reading, **asked).to_json()}
        except DeviceLost:
            raise
        except CTEdgeError as error:
            return {"error": described(error)} if error.of_one_scan else {"fatal": error.as_dict()}
        except Exception as error:  # noqa: BLE001 - one scan's failure is not the others'
            return {"error": described(error)}

    def _load(self) -> Any:
        if self._door is None:
            from ctedge.doors.by_task import load_door

            plan = self._plan
            if plan.version != ctedge.__version__:
                raise RuntimeUnavailable(
                    "a worker runs another version of ctedge",
                    found=ctedge.__version__,
                    expected=plan.version,
                    fix=f"install ctedge {plan.version} on every machine of the cluster",
                )
            claim_cores(self._threads)
            door = load_door(
                plan.bundle, device=plan.device, runtime=plan.runtime, precision=plan.precision
            )
            if door.bundle.digest != plan.model_digest:
                raise DigestMismatch(
                    f"a worker finds another {plan.model} at {plan.bundle}",
                    found=door.bundle.digest,
                    expected=plan.model_digest,
                    fix="copy the bundle to every machine of the cluster",
                )
            self._door = door
        return self._door


def described(error: Exception) -> dict[str, str]:
    """An error as the results have it: its class, and what it says, `found` to `fix`."""
    return {"type": type(error).__name__, "message": str(error) or type(error).__name__}


def lost() -> WorkerLost:
    """What stands in the place of an answer where two workers died of a scan."""
    return WorkerLost(
        "two worker processes ended while they judged this scan",
        expected="enough memory for every worker",
        fix="judge it alone with `ctedge predict`; take fewer workers, and look whether the system"
        " killed them, or the GPU failed (dmesg)",
    )
