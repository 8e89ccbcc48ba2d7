"""A loaded model stays one, in its process: what would copy it, or send it away, is told so."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from bundle_factory import write_tiny
from ctedge import Classifier, InferenceFailed, SeverityRegressor, SliceClassifier
from ctedge.doors.by_task import load_door

KINDS = {"classifier": Classifier, "severity": SeverityRegressor, "slices": SliceClassifier}


def answers_where_it_was_loaded(bundle: Path) -> str:
    """What the message says to do: to be called in another process."""
    with load_door(bundle, device="cpu", runtime="onnxruntime") as door:
        return str(door.bundle.digest)


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_says_what_to_send_instead(tmp_path: Path, task: str, way: Callable[[object], object]):
    kind = KINDS[task]
    bundle = write_tiny(tmp_path / "tiny.ctedge", task=task).path
    with kind.load(bundle, device="cpu", runtime="onnxruntime") as door:
        for what in (door, door.predict, [door]):
            if way is not copy.copy or what is door:
                with pytest.raises(InferenceFailed, match=rf"call {kind.__name__}\.load\(path\)"):
                    way(what)


def test_a_pool_of_processes_hands_that_on(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    spawn = multiprocessing.get_context("spawn")
    with (
        Classifier.load(bundle, device="cpu", runtime="onnxruntime") as door,
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
    ):
        with pytest.raises(InferenceFailed, match="once in each process"):
            pool.submit(door.predict, "scan.nii.gz").result()
        assert pool.submit(answers_where_it_was_loaded, bundle).result() == door.bundle.digest
