"""How benchmarks ask for a candidate by its name."""

from __future__ import annotations

import pytest

from conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"

NAMED = {
    "auto": (),
    "openvino-cpu-int8": ("openvino", "cpu", "int8"),
    "tensorrt-rtx-cuda-fp16": ("tensorrt-rtx", "cuda", "fp16"),
}


@pytest.mark.parametrize("candidate", NAMED)
def test_a_candidate_is_asked_for_in_words_and_in_arguments(candidate, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(BENCHMARKS / "peers")
    import ctedge_script
    import latency_ctedge

    arguments = ctedge_script.named(candidate)
    assert tuple(arguments.values()) == NAMED[candidate]
    words = latency_ctedge.named(candidate)
    assert words == [word for name, value in arguments.items() for word in (f"--{name}", value)]
