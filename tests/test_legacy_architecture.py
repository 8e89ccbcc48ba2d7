"""An architecture that is no plain chain of our layers is refused, and the layer is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("h5py")

from legacy_factory import Entry, entry, functional, refuse, small, write_model


def settings(index: int, **changes: Any) -> Callable[[list[Entry]], object]:
    return lambda entries: entries[index]["config"].update(changes)


def outside(index: int, **changes: Any) -> Callable[[list[Entry]], object]:
    return lambda entries: entries[index].update(changes)


CUSTOM = {"module": "mine", "class_name": "Glorot", "config": {}, "registered_name": None}
REGISTERED = {"module": "keras", "class_name": "L2", "config": {}, "registered_name": "mine>L2"}
LAMBDA = {"class_name": "__lambda__", "config": {"value": ["code"]}}
MIXED = {"class_name": "Policy", "config": {"name": "mixed_float16"}}


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [
        (outside(7, class_name="Lambda"), "d1", "kind Lambda"),
        (outside(7, class_name="TFOpLambda"), "d1", "kind TFOpLambda"),
        (outside(1, class_name="mine>Conv3D"), "c1", "kind mine>Conv3D"),
        (outside(1, class_name="Conv3DTranspose"), "c1", "kind Conv3DTranspose"),
        (outside(1, class_name=["Conv3D"]), "c1", "kind"),
        (outside(1, registered_name="mine>Conv3D"), "c1", "registered name mine>Conv3D"),
        (outside(1, module="mine.layers"), "c1", "module mine.layers"),
        (outside(1, shared_object_id=3), "c1", "shared_object_id"),
        (outside(1, config=None), "c1", "settings"),
        (outside(1, name="other"), "other", "another name"),
        (settings(1, kernel_initializer=CUSTOM), "c1", "module mine"),
        (settings(1, kernel_regularizer=REGISTERED), "c1", "registered name mine>L2"),
        (settings(1, bias_constraint=LAMBDA), "c1", "class __lambda__"),
        (settings(1, dtype="int8"), "c1", "dtype int8"),
        (settings(1, dtype=MIXED), "c1", "dtype mixed_float16"),
        (settings(1, padding="same"), "c1", "padding same"),
        (settings(1, strides=[2, 2, 2]), "c1", "strides"),
        (settings(1, dilation_rate=[2, 2, 2]), "c1", "dilation_rate"),
        (settings(1, kernel_size=[5, 5, 5]), "c1", "kernel_size"),
        (settings(1, groups=2), "c1", "groups 2"),
        (settings(1, groups=True), "c1", "groups True"),
        (settings(1, data_format="channels_first"), "c1", "channels_first"),
        (settings(1, activation="tanh"), "c1", "activation tanh"),
        (settings(1, activation={"class_name": "relu"}), "c1", "activation"),
        (settings(1, activation="sigmoid"), "c1", "activation sigmoid"),
        (settings(1, filters=True), "c1", "filters True"),
        (settings(1, filters=10**9), "c1", "filters 1000000000"),
        (settings(1, use_bias=1), "c1", "use_bias 1"),
        (settings(1, lora_rank=4), "c1", "lora_rank"),
        (settings(2, pool_size=[3, 3, 3]), "p1", "pool_size"),
        (settings(3, axis=[1]), "n1", "axis"),
        (settings(3, epsilon=float("1e308")), "n1", "epsilon"),
        (settings(3, epsilon=-1e-3), "n1", "epsilon"),
        (settings(3, renorm=True), "n1", "renorm"),
        (settings(6, keepdims=True), "gap", "keepdims"),
        (settings(8, rate=1.5), "drop", "rate 1.5"),
        (settings(9, units=2), "d2", "end"),
        (settings(9, activation="relu"), "d2", "activation relu"),
        (settings(0, sparse=True), "in", "sparse"),
        (settings(0, batch_input_shape=[None, 12, 13, 14, 3]), "in", "shape"),
        (settings(0, batch_input_shape=[None, None, None, None, 1]), "in", "shape"),
        (settings(0, batch_input_shape=[None, 12, 13, 513, 1]), "in", "shape"),
        (settings(0, batch_input_shape=[None, 12, 5, 14, 1]), "c2", "nothing left"),
        (outside(3, inbound_nodes=[[["c1", 0, 0, {}]]]), "n1", "another input than p1"),
        (outside(3, inbound_nodes=[[["p1", 1, 0, {}]]]), "n1", "another input"),
        (outside(3, inbound_nodes=[[["p1", 0, 0, {"x": 1}]]]), "n1", "another input"),
        (outside(3, inbound_nodes=[[["p1", 0, 0, {}], ["c1", 0, 0, {}]]]), "n1", "another input"),
        (outside(3, inbound_nodes=2 * [[["p1", 0, 0, {}]]]), "n1", "used 2 times"),
        (outside(3, inbound_nodes={}), "n1", "used 0 times"),
        (outside(0, inbound_nodes=[[["d2", 0, 0, {}]]]), "in", "input of the first"),
    ],
)
def test_a_layer_that_is_not_ours_is_named(
    spoil: Callable[[list[Entry]], object], name: str, said: str, tmp_path: Path
) -> None:
    entries = small()
    spoil(entries)
    error = refuse(write_model(tmp_path / "a.h5", entries), "cannot be imported")
    assert f"the layer {name!r}" in str(error)
    assert said in str(error)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ([0, 1, 3, 2, 4, 5, 6, 7, 8, 9], "before a maximum"),
        ([0, 1, 2, 3, 6, 4, 5, 7, 8, 9], "Conv3D behind the average"),
        ([0, 7, 1, 2, 3, 4, 5, 6, 8, 9], "Dense before the average"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 9, 8], "Dropout at the end"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], "Conv3D first"),
    ],
)
def test_the_order_of_the_layers(order: list[int], said: str, tmp_path: Path) -> None:
    whole = small()
    entries = [whole[i] for i in order]
    for number, layer in enumerate(entries):
        before = None if number == 0 else entries[number - 1]["name"]
        layer["inbound_nodes"] = entry("", "", before)["inbound_nodes"]
    refuse(write_model(tmp_path / "a.h5", entries), said)


def test_a_shared_layer_and_two_outputs(tmp_path: Path) -> None:
    entries = small()
    entries[4]["name"] = entries[4]["config"]["name"] = "c1"
    refuse(write_model(tmp_path / "a.h5", entries), "two layers have")
    document = functional(small())
    document["config"]["output_layers"].append(["d1", 0, 0])
    refuse(write_model(tmp_path / "b.h5", document=document), "output_layers")


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "class_name and config"),
        ({"class_name": "Sequential", "config": []}, "keys"),
        ({"class_name": "Net", "config": {}}, "kind Net"),
        ({**functional(small()), "registered_name": "mine>Net"}, "alone"),
        ({"class_name": "Functional", "config": {"layers": []}}, "2 to 32"),
        ({"class_name": "Functional", "config": {"layers": [1, 2]}}, "an object for each"),
        ({"class_name": "Functional", "config": {"layers": [{}, {}]}}, "printable"),
        ({"class_name": "Functional", "config": {"layers": 40 * small()}}, "2 to 32"),
        ({"class_name": "Functional", "config": deep(200)}, "no JSON"),
        ({"class_name": "Functional", "config": float("nan")}, "no JSON"),
    ],
)
def test_an_architecture_that_is_no_chain(document: Any, said: str, tmp_path: Path) -> None:
    refuse(write_model(tmp_path / "a.h5", document=document), said)


def test_more_outputs_than_any_honest_network(tmp_path: Path) -> None:
    entries = small(shape=(512, 512, 512))
    entries[1]["config"]["filters"] = 64
    refuse(write_model(tmp_path / "a.h5", entries), "510x510x510x64 outputs")


def test_more_weights_than_any_honest_network(tmp_path: Path) -> None:
    entries = small()
    entries[7]["config"]["units"] = 4096
    entries.insert(8, entry("Dense", "d", "d1", units=4096, activation="relu", use_bias=True))
    entries[9]["inbound_nodes"] = [[["d", 0, 0, {}]]]
    refuse(write_model(tmp_path / "a.h5", entries), "weights")
