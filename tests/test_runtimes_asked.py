"""Every CPU runtime refuses what is no batch of its network in the same words, and says why."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.errors import InferenceFailed
from ctedge.runtimes import Runtime
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.openvino_runtime import OpenVinoRuntime
from precision_factory import SPEC, network, weights

RUNTIMES = [
    pytest.param(OnnxRuntime, id="onnxruntime"),
    pytest.param(
        OpenVinoRuntime,
        id="openvino",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
        ),
    ),
]


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    kind: Callable[..., Runtime] = request.param
    opened = kind(network(weights()).SerializeToString(), name="small")
    yield opened
    opened.close()


@pytest.fixture
def batch(rng):
    return rng.random((3, 1, *SPEC.shape), dtype=np.float32)


def test_nothing_is_cast(runtime, batch):
    for kind in (np.float64, np.float16, np.int16):
        with pytest.raises(InferenceFailed, match="the network takes float32") as met:
            runtime.run(batch.astype(kind))
        assert met.value.found == np.dtype(kind)
        assert met.value.fix is None


def test_another_shape_is_an_error(runtime, batch):
    for other in (batch[..., :-1], batch[:0], batch[0], batch[..., np.newaxis]):
        with pytest.raises(InferenceFailed, match="the batch does not fit the network") as met:
            runtime.run(other)
        assert met.value.found == other.shape
        assert met.value.expected == f"(1 or more, 1, {', '.join(map(str, SPEC.shape))})"
        assert met.value.fix is None  # memory has no part in it


def test_a_refused_batch_leaves_the_model_as_it_was(runtime, batch):
    before = runtime.run(batch)
    with pytest.raises(InferenceFailed):
        runtime.run(batch[..., :-1])
    after = runtime.run(batch)
    assert all(np.array_equal(before[name], after[name]) for name in before)
