"""The layers of a Keras architecture in the order of the data, when each feeds only the next."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ctedge.errors import InvalidBundle
from ctedge.strict_json import shorten
from ctedge_training.legacy.layers import MAX_LAYERS, refuse

_MODEL_KEYS = {"name", "trainable", "dtype", "build_input_shape"} | {
    "layers",
    "input_layers",
    "output_layers",
}

#: What a call of a layer may say besides its input: that there is no mask, and that it is used as
#: it is at inference.
_IDLE_CALLS = ({"mask": None}, {"training": False}, {"training": None})


def chained(
    document: object, check_entry: Callable[[Mapping[str, Any]], None]
) -> list[Mapping[str, Any]]:
    """The entries of the layers, the input first; each has a "name" that no other has.

    Args:
        document: the parsed `model_config` of a functional or a sequential model.
        check_entry: looks at an entry by itself before its place in the chain is judged.

    Raises:
        InvalidBundle: another kind of model, shared layers, branches, or more than one output.
    """
    if not isinstance(document, dict) or not set(document) >= {"class_name", "config"}:
        _refuse_model(document, "an object with class_name and config")
    kind, config = document["class_name"], document["config"]
    if kind not in ("Functional", "Model", "Sequential"):
        _refuse_model(f"a model of kind {kind}", "Functional, Model or Sequential")
    if set(document) != {"class_name", "config"}:
        _refuse_model(sorted(document), "class_name and config alone")
    if not isinstance(config, dict) or not set(config) <= _MODEL_KEYS:
        _refuse_model(
            sorted(config) if isinstance(config, dict) else config,
            f"the keys {sorted(_MODEL_KEYS)}",
        )
    entries = config.get("layers")
    if not isinstance(entries, list) or not 2 <= len(entries) <= MAX_LAYERS:
        _refuse_model("another list of layers", f"2 to {MAX_LAYERS} layers")
    named = [_named(entry) for entry in entries]
    for entry in named:
        check_entry(entry)
    names = [entry["name"] for entry in named]
    for name in names:
        if names.count(name) > 1:
            refuse(name, "a name that two layers have", "names that differ")
    if kind != "Sequential":
        _check_links(named)
        for key, name in (("input_layers", names[0]), ("output_layers", names[-1])):
            if config.get(key) not in ([name, 0, 0], [[name, 0, 0]]):
                _refuse_model(f"{key} {config.get(key)}", f"{key} {name} alone")
    return named


def _named(entry: object) -> Mapping[str, Any]:
    """An entry with its name at the top; Keras 2's sequential models keep it in the settings."""
    if not isinstance(entry, dict):
        _refuse_model(entry, "an object for each layer")
    config = entry.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    name = entry.get("name", inner)
    if not isinstance(name, str) or not 1 <= len(name) <= 128 or not name.isprintable():
        _refuse_model(f"a layer named {name}", "a printable name of 1 to 128 characters")
    if inner not in (None, name):
        refuse(name, f"{inner} as another name of it", "one name")
    return {**entry, "name": name}


def _check_links(entries: list[Mapping[str, Any]]) -> None:
    if entries[0].get("inbound_nodes") != []:
        refuse(entries[0]["name"], "an input of the first layer", "none")
    for before, after in itertools.pairwise(entries):
        nodes = after.get("inbound_nodes")
        if not isinstance(nodes, list) or len(nodes) != 1:
            uses = len(nodes) if isinstance(nodes, list) else 0
            refuse(after["name"], f"a layer that is used {uses} times", "a layer used once")
        if _source(nodes[0]) != [before["name"], 0, 0]:
            refuse(after["name"], f"another input than {before['name']}", "a plain chain of layers")


def _source(node: object) -> object:
    """[layer, node, tensor] that one call takes; None when it takes anything else."""
    match node:
        case [[name, int(number), int(tensor), dict(options)]] if not options:
            return [name, number, tensor]
        case {
            "args": [
                {"class_name": "__keras_tensor__", "config": {"keras_history": history}, **more}
            ],
            "kwargs": dict(options),
            **rest,
        } if not rest and not more and all({k: v} in _IDLE_CALLS for k, v in options.items()):
            return history
    return None


def _refuse_model(found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        "the architecture in the checkpoint is no plain chain of layers",
        found=shorten(found),
        expected=expected,
        fix="import a checkpoint of the published 3D network, or train one with `ctedge train`",
    )
