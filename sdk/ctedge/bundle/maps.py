"""Maps: outputs of a network that show where an answer comes from, as the manifest states them.

    "maps": [{"name": "cam", "method": "grad-cam", "shape": [6, 6, 2],
              "origin": [22.5, 22.5, 22.5], "step": [16.0, 16.0, 16.0]}, ...]

Origin and step are in voxels of the network's input: where the centre of the first cell lies, and
how far the next ones are. Nothing is calculated of a map that nobody asks for.
"""

from __future__ import annotations

from dataclasses import dataclass

from ctedge.strict_json import list_of, object_with, printable, refuse

CAM, LAYER_CAM = "cam", "layer_cam"

#: What each map is, by its name; finer ones last.
MAP_METHODS = {CAM: "grad-cam", LAYER_CAM: "layer-cam"}
MAPS = tuple(MAP_METHODS)

_MAX_AXIS = 4096


@dataclass(frozen=True, kw_only=True)
class MapRecord:
    """An output that shows where an answer comes from.

    Attributes:
        name: of the output, (N, *shape).
        method: "grad-cam" or "layer-cam".
        shape: its cells.
        origin: where the centre of the first cell lies, as an index of the input, per axis.
        step: from one centre to the next, in voxels of the input, per axis.
    """

    name: str
    method: str
    shape: tuple[int, ...]
    origin: tuple[float, ...]
    step: tuple[float, ...]


def parse_maps(value: object, shape: tuple[int, ...]) -> tuple[MapRecord, ...]:
    """Read the manifest's `model.maps`.

    Args:
        value: the JSON value.
        shape: of the network's input, without channels.

    Raises:
        InvalidBundle: a key that is missing, unknown or wrong.
    """
    records: list[MapRecord] = []
    for i, item in enumerate(list_of(value, "model.maps", len(MAP_METHODS))):
        where = f"model.maps[{i}]"
        record = object_with(item, where, {"name", "method", "shape", "origin", "step"})
        name = printable(record["name"], f"{where}.name")
        if MAP_METHODS.get(name) != record["method"] or name in {r.name for r in records}:
            refuse(where, [name, record["method"]], f"each once, of {MAP_METHODS}")
        cells = tuple(list_of(record["shape"], f"{where}.shape", 8))
        if any(type(size) is not int or not 1 <= size <= _MAX_AXIS for size in cells):
            refuse(f"{where}.shape", cells, f"whole numbers, 1 to {_MAX_AXIS}")
        ends = [_voxels(record[key], f"{where}.{key}") for key in ("origin", "step")]
        if any(len(part) != len(shape) for part in (cells, *ends)) or min(ends[1]) <= 0:
            refuse(where, record, f"{len(shape)} axes, and steps above 0")
        records.append(
            MapRecord(
                name=name, method=MAP_METHODS[name], shape=cells, origin=ends[0], step=ends[1]
            )
        )
    return tuple(records)


def _voxels(value: object, where: str) -> tuple[float, ...]:
    numbers = list_of(value, where, 8)
    for one in numbers:
        if type(one) is not float or not abs(one) <= _MAX_AXIS:
            refuse(where, value, f"numbers up to {_MAX_AXIS}")
    return tuple(numbers)
