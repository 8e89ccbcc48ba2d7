"""`warm_up()` makes the first scan as quick as the next, and the box prove what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", exc_type=ImportError)

from bundle_factory import read_document, seal, write_tiny
from ctedge import Classifier, GateFailed

#: Opened without a look at the golden cases: `warm_up` is that look.
PLAIN = {"runtime": "onnxruntime", "precision": "fp32"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


def test_golden_cases_are_answered(path: Path) -> None:
    with Classifier.load(path, **PLAIN) as classifier:
        classifier.warm_up()


def test_a_network_that_answers_otherwise_here_is_found(path: Path) -> None:
    document = read_document(path)
    document["golden"][0]["outputs"]["logit"] += 0.01
    seal(path, document)
    with (
        Classifier.load(path, **PLAIN) as classifier,
        pytest.raises(GateFailed, match="golden case 'noise'"),
    ):
        classifier.warm_up()


def test_where_there_is_no_golden_case_the_network_runs(path: Path) -> None:
    document = read_document(path)
    document["golden"] = []
    seal(path, document)
    with Classifier.load(path, **PLAIN) as classifier:
        ran: list[int] = []
        run = classifier._runtime.run
        classifier._runtime.run = lambda batch: (ran.append(len(batch)), run(batch))[1]
        classifier.warm_up()
    assert ran == [1]
