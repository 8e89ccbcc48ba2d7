"""The peers of `latency.py`, and the processes that keep them warm or run them cold."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency_inputs import BUNDLE, KERAS, ONNX, WEIGHTS, WITH_BF16

from ctedge.runtimes.candidate import ORDER

SCRIPTS = Path(__file__).resolve().parent / "peers"

#: Every way that ctedge takes on a CPU, and what it chooses itself.
CANDIDATES = ("auto", *(one.name for one in ORDER if one.device == "cpu"))

#: Gated against Keras when the bundle was exported: what all other answers are held against.
REFERENCE = "ctedge, onnxruntime-cpu-fp32"

PUBLISHED = "published: nibabel, scipy, Keras"

_NO_TORCH = "no interpreter with torch was named (--python-torch)"


class PeerLost(Exception):
    """A peer's process ended, or did not answer as it should."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to an answer.

    Attributes:
        name: what its rows are called.
        script: of `peers/`.
        model: file or bundle that it loads.
        torch: runs in the interpreter that has torch.
        candidate: of ctedge, what is asked for.
    """

    name: str
    script: str
    model: str
    torch: bool = False
    candidate: str | None = None


def peers(candidates: Sequence[str]) -> tuple[Peer, ...]:
    """All of them, the published pipeline first."""
    return (
        Peer(name=PUBLISHED, script="keras_script", model=KERAS),
        Peer(name="the same, ONNX Runtime only", script="onnxruntime_script", model=ONNX),
        Peer(name="the same, OpenVINO directly", script="openvino_script", model=ONNX),
        Peer(name="MONAI and torch", script="monai_script", model=WEIGHTS, torch=True),
        Peer(name="TorchIO and torch", script="torchio_script", model=WEIGHTS, torch=True),
        *(
            Peer(name=f"ctedge, {one}", script="ctedge_script", model=BUNDLE, candidate=one)
            for one in candidates
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where peers find what they need.

    Attributes:
        inputs: the folder that `latency_inputs` filled.
        torch: the interpreter that has torch; None where none was named.
    """

    inputs: Path
    torch: str | None

    def python(self, peer: Peer) -> str:
        if not peer.torch:
            return sys.executable
        if self.torch is None:
            raise PeerLost(_NO_TORCH)
        return self.torch

    def model(self, peer: Peer) -> str:
        """The file that it loads; ctedge takes the shipped bundle, which has no bfloat16."""
        if peer.model != BUNDLE:
            return str(self.inputs / peer.model)
        extended = self.inputs / WITH_BF16
        wanted = peer.candidate is not None and peer.candidate.endswith("bf16")
        return str(extended) if wanted and extended.exists() else BUNDLE


def environment(cpus: int | None = None) -> dict[str, str]:
    """Without chatter, and without what this process was told of threads, and of bytecode: where
    none may be written, an editable checkout is compiled with every start.
    """
    here = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_NUM_THREADS") and name != "PYTHONDONTWRITEBYTECODE"
    }
    limit = {} if cpus is None else {"CTEDGE_PEERS_CPUS": str(cpus)}
    return here | {"TF_CPP_MIN_LOG_LEVEL": "3"} | limit


class Worker:
    """A peer in a process of its own, loaded; `missing` says why where it could not be."""

    def __init__(self, peer: Peer, place: Place, *, cpus: int | None = None) -> None:
        self.peer = peer
        self.missing: str | None = None
        self.told: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None
        try:
            command = [place.python(peer), str(SCRIPTS / "worker.py"), peer.script]
            command += [place.model(peer), *([peer.candidate] if peer.candidate else [])]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment(cpus),
            )
            self.told = self._heard()
            self.missing = self.told.get("missing")
        except (OSError, PeerLost) as error:
            self.missing = error.strerror if isinstance(error, OSError) else str(error)
        if self.missing is not None:
            self.close()

    def ask(self, do: str, **more: object) -> dict[str, Any]:
        """Send one request, and wait for its answer.

        Raises:
            PeerLost: it has ended.
        """
        if self._process is None or self._process.stdin is None:
            raise PeerLost(self.missing or "closed")
        try:
            print(json.dumps({"do": do, **more}), file=self._process.stdin, flush=True)
            return self._heard()
        except (OSError, PeerLost) as error:
            self.missing = f"lost while it was asked for {do!r}"
            self.close()
            raise PeerLost(self.missing) from error

    def close(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # what was written to one that has ended
                        pipe.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def facts(self) -> dict[str, Any]:
        """What its row of peers says."""
        return {"peer": self.peer.name, "missing": self.missing, **self.told}

    def _heard(self) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise PeerLost("closed")
        line = process.stdout.readline()
        if not line:
            raise PeerLost(f"ended with {process.wait()}")
        document: dict[str, Any] = json.loads(line)
        return document


def run_cold(peer: Peer, place: Place, scan: Path) -> tuple[float, float, float]:
    """Its script from process start to end: milliseconds, peak MiB, probability.

    Raises:
        PeerLost: it has no interpreter, or did not answer.
    """
    command = [place.python(peer), str(SCRIPTS / f"{peer.script}.py"), place.model(peer), str(scan)]
    command += [peer.candidate] if peer.candidate else []
    ms, peak, said = timed(command)
    name, _, value = (said.splitlines() or [""])[-1].partition(" ")
    if name != "abnormal":
        raise PeerLost("no answer")
    return ms, peak, float(value)


def timed(command: Sequence[str]) -> tuple[float, float, str]:
    """Run a process: milliseconds until it has ended, peak MiB, what it printed.

    Raises:
        PeerLost: it cannot be started, or failed.
    """
    start = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(),
        )
    except OSError as error:
        raise PeerLost(error.strerror or "cannot be started") from error
    with process:
        said = process.stdout.read() if process.stdout is not None else ""
        _, status, used = os.wait4(process.pid, 0)
        ms = (time.perf_counter() - start) * 1e3
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise PeerLost(f"ended with {process.returncode}")
    return ms, used.ru_maxrss / 1024, said
