"""Exporting the U-Net R231: what is refused, the graph, and, where torch is, that torch agrees."""

from __future__ import annotations

import collections
import pickle
import re

import numpy as np
import pytest

from command_line import run
from conftest import REPOSITORY
from ctedge import (
    LUNGMASK,
    BundleNotFound,
    GateFailed,
    InvalidBundle,
    LungMaskSpec,
    OutputError,
    UnsafeModel,
)
from ctedge_export.lock import written_by_one
from ctedge_export.lungmask import network
from ctedge_export.lungmask.export import export_lungmask, export_weights
from lungmask_factory import SMALL, Exploit, random_weights, save_weights

pytest.importorskip("scipy", exc_type=ImportError)

try:
    import torch
except ImportError:
    torch = None

DOCS = (REPOSITORY / "docs" / "lungs.md").read_text()

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")


def changed(**tensors) -> dict[str, np.ndarray]:
    weights = dict(random_weights())
    for name, values in tensors.items():
        weights[name.replace("__", ".")] = values
    return weights


def without(*names: str) -> dict[str, np.ndarray]:
    return {name: values for name, values in random_weights().items() if name not in names}


def test_the_true_architecture_has_its_number_of_weights():
    # Of lungmask's UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True).
    assert sum(np.prod(shape) for shape in network.shapes().values()) == 31_073_859


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ({}, "missing"),
        (without("last.bias"), "last.bias"),
        (changed(stranger=np.zeros(3, np.float32)), "stranger"),
        (changed(last__weight=np.zeros((6, 64, 1, 1), np.float32)), r"6, 64"),
        (changed(last__bias=np.zeros(3)), "float64"),
        (changed(last__bias=np.full(3, np.nan, np.float32)), "NaN"),
        (
            changed(**{"down_path.0.block.2.running_var": np.full(64, -1, np.float32)}),
            "negative",
        ),
    ],
    ids=["nothing", "missing", "unknown", "lobes", "float64", "NaN", "variance"],
)
def test_other_weights_are_refused(tmp_path, weights, found):
    with pytest.raises(InvalidBundle, match="R231") as caught:
        export_weights(weights, tmp_path / "x.ctedge", reference=lambda batch: batch, provenance={})
    assert found in str(caught.value.found)
    assert not list(tmp_path.iterdir())


def test_what_a_batch_norm_counted_may_be_there():
    counted = dict.fromkeys(network.counters(), ((), "int64"))
    plain = {name: (shape, "float32") for name, shape in network.shapes().items()}
    network.check_shapes(plain | counted)


def test_slices_that_cannot_be_halved_four_times_are_refused():
    odd = LungMaskSpec(name="odd", shape=(64, 72))
    with pytest.raises(InvalidBundle, match="R231"):
        network.build(random_weights(), odd, {})


def test_batch_norms_before_1x1_convolutions_are_folded_and_no_other():
    model = network.build(random_weights(), SMALL, {})
    operators = collections.Counter(node.op_type for node in model.graph.node)
    assert operators == {
        "Conv": 23,
        "Relu": 18,
        "BatchNormalization": 13,
        "AveragePool": 4,
        "Resize": 4,
        "Concat": 4,
    }
    assert model.opset_import[0].version == 17


def test_a_network_that_answers_otherwise_does_not_leave(tmp_path):
    def other(batch):
        return np.full((len(batch), 3, *SMALL.shape), -np.log(3), np.float32)

    with pytest.raises(GateFailed, match="torch") as caught:
        export_weights(
            random_weights(), tmp_path / "x.ctedge", reference=other, provenance={}, spec=SMALL
        )
    assert caught.value.exit_code == 3
    assert not list(tmp_path.iterdir())


def test_what_another_process_writes_is_left_alone(tmp_path):
    target = tmp_path / "x.ctedge"
    with written_by_one(target), pytest.raises(OutputError, match="is going on") as caught:
        export_weights({}, target, reference=lambda batch: batch, provenance={}, overwrite=True)
    assert "wait for it" in str(caught.value.fix)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch is not None, reason="torch is installed")
def test_without_torch_the_command_names_the_extra(tmp_path):
    answer = run("export", "lungmask", tmp_path / "w.pth", "-o", tmp_path / "x.ctedge")
    assert answer.returncode == 1
    assert 'pip install "ctedge[lungmask]"' in answer.stderr


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "random.pth", random_weights())


@pytest.fixture(scope="module")
def exported(weights_file):
    said: list[str] = []
    target = weights_file.with_name("lungs.ctedge")
    bundle = export_lungmask(weights_file, target, say=said.append)
    assert any("gate passed" in line for line in said)
    return bundle


@needs_torch
def test_torch_agrees_and_the_bundle_says_so(exported):
    gate = exported.gates["onnx"]
    assert gate["max_abs_difference"] <= 1e-4
    assert gate["tied_pixels_that_differ"] == 0
    assert exported.lung_spec == LUNGMASK
    assert len(exported.provenance["weights_sha256"]) == 64


@needs_torch
def test_the_older_file_format_of_torch_is_read(tmp_path):
    from ctedge_export.lungmask.weights import read_weights, state_dict

    path = save_weights(
        tmp_path / "old.pth", random_weights(), _use_new_zipfile_serialization=False
    )
    state = state_dict(read_weights(path), torch)
    np.testing.assert_array_equal(state["last.bias"], random_weights()["last.bias"])


@needs_torch
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (pickle.dumps(Exploit()), UnsafeModel),
        ({"weights": Exploit()}, UnsafeModel),
        ([1, 2], InvalidBundle),
        ({"a": "text"}, InvalidBundle),
        ({"last.bias": "sparse"}, InvalidBundle),
        (b"", InvalidBundle),
        (b"PK\x03\x04 cut", InvalidBundle),
    ],
    ids=["pickle", "pickled code", "a list", "text", "sparse", "empty", "cut"],
)
def test_files_that_are_no_weights_are_refused(tmp_path, capsys, content, error):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == {"last.bias": "sparse"}:
        torch.save({"last.bias": torch.eye(3).to_sparse()}, path)
    else:
        torch.save(content, path)
    with pytest.raises(error) as caught:
        export_lungmask(path, tmp_path / "x.ctedge")
    assert caught.value.fix
    assert "code ran" not in capsys.readouterr().out
    assert not (tmp_path / "x.ctedge").exists()


@needs_torch
def test_weights_that_are_not_there_say_so(tmp_path):
    with pytest.raises(BundleNotFound, match=r"none\.pth"):
        export_lungmask(tmp_path / "none.pth", tmp_path / "x.ctedge")


def test_the_docs_name_a_command_that_exists():
    (line,) = [line for line in DOCS.splitlines() if line.startswith("ctedge ")]
    answer = run(*line.split()[1:3], "--help")
    assert answer.returncode == 0
    assert all(option in answer.stdout for option in line.split() if option.startswith("-"))
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    exec(next(line for line in code.splitlines() if "import" in line), {})  # noqa: S102 - our own
    compile(code, "lungs.md", "exec")
