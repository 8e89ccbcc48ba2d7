from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from ctedge.montage import MARKED_PIXELS, TILE_PIXELS, montage_png
from side_marks import marks


def parse(path):
    """Pixels (rows, columns, 3) and the chunks of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        (check,) = struct.unpack(">I", data[place + 8 + length : place + 12 + length])
        assert check == zlib.crc32(kind + body)
        chunks.append((kind, body))
        place += 12 + length
    assert chunks[0][0] == b"IHDR"
    assert chunks[-1] == (b"IEND", b"")
    columns, rows, depth, colour = struct.unpack(">IIBB", chunks[0][1][:10])
    assert (depth, colour) == (8, 2)
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    lines = np.frombuffer(raw, np.uint8).reshape(rows, 1 + columns * 3)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(rows, columns, 3), chunks


def test_tiles_lie_in_rows_from_inferior_to_superior(tmp_path):
    volume = np.full((20, 16, 5), -1000.0)
    volume += np.arange(5) * 350.0  # 5 greys from black to white
    pixels, _ = parse(montage_png(volume, tmp_path / "sheet.png", columns=3, count=24))
    assert pixels.shape == (2 * 18, 3 * 22, 3)
    greys = [pixels[8 + 18 * (i // 3), 8 + 22 * (i % 3), 0] for i in range(5)]
    assert greys == [0, 64, 128, 191, 255]


def test_anterior_is_up_and_left_is_on_the_right(tmp_path):
    volume = np.full((16, 16, 1), -1000)
    volume[13:, 13:, 0] = 400  # left and anterior
    pixels, _ = parse(montage_png(volume, tmp_path / "sheet.png"))
    assert (pixels[:3, 13:16] == 255).all()
    assert (pixels[3:16, :13] == 0).all()


def test_large_slices_are_averaged(tmp_path):
    volume = np.full((512, 512, 2), 400, dtype=np.int16)
    volume[::2] = -1000
    pixels, _ = parse(montage_png(volume, tmp_path / "sheet.png", count=1))
    assert pixels.shape[0] <= TILE_PIXELS + 2
    assert 60 < pixels[50, 50, 0] < 200


def test_overlay_is_red_where_the_mask_is(tmp_path):
    mask = np.zeros((16, 16, 1), dtype=bool)
    mask[:8] = True
    path = montage_png(np.full((16, 16, 1), -300), tmp_path / "sheet.png", overlay=mask)
    pixels, _ = parse(path)
    assert pixels[5, 3, 0] > pixels[5, 3, 1] + 50
    assert len(set(pixels[5, 12].tolist())) == 1


#: Where the patient's left is, all but air: of what brightness, and with what over it.
LEFT_SIDES = {
    "lung": {},
    "fat": {"hu": -100},
    "bone": {"hu": 1000},
    "heat": {"heat": True},
    "mask": {"overlay": True},
}


@pytest.mark.parametrize("over", LEFT_SIDES)
@pytest.mark.parametrize("side", [MARKED_PIXELS, 90, 128, 512])
def test_r_and_l_stand_where_the_patient_has_them(tmp_path, side, over):
    what = LEFT_SIDES[over]
    left = np.zeros((side, side, 1), bool)
    left[side // 2 :] = True  # the first axis grows towards the patient's left
    volume = np.where(left, what.get("hu", -850), -1000)
    more = {name: left for name in ("heat", "overlay") if name in what}
    path = montage_png(volume, tmp_path / "sheet.png", mark_sides=True, **more)
    pixels, _ = parse(path)
    ((row_r, right),), ((row_l, left_column),) = marks(pixels)["R"], marks(pixels)["L"]
    plain, _ = parse(montage_png(volume, tmp_path / "plain.png", **more))
    grey = plain.max(axis=2)
    length = pixels.shape[0] - 2  # but for the gap
    assert grey[5, round(left_column)] > grey[5, round(right)]
    assert right < 0.13 * length < 0.87 * length < left_column
    assert row_r == row_l == pytest.approx(length / 2, abs=1)


def test_every_tile_has_its_marks_and_nothing_else_changes(tmp_path, rng):
    volume = rng.integers(-900, 300, (60, 50, 6))
    pixels, _ = parse(montage_png(volume, tmp_path / "s.png", mark_sides=True, columns=3))
    plain, _ = parse(montage_png(volume, tmp_path / "p.png", columns=3))
    found = marks(pixels)
    for letter in "RL":
        tiles = {(row // 52, column // 62) for row, column in found[letter]}
        assert len(found[letter]) == len(tiles) == 6
    changed = np.argwhere((pixels != plain).any(axis=2))
    centres = np.array(found["R"] + found["L"])
    far = np.abs(changed[:, np.newaxis] - centres).max(axis=2).min(axis=1)
    assert far.max() <= 5  # a glyph of 5 x 7 with its outline
    assert marks(plain) == {"R": [], "L": []}


@pytest.mark.parametrize("shape", [(MARKED_PIXELS - 1, 64), (64, MARKED_PIXELS - 1), (8, 8)])
def test_small_tiles_have_no_room_for_marks(tmp_path, shape):
    volume = np.full((*shape, 2), -850)
    marked = montage_png(volume, tmp_path / "marked.png", mark_sides=True)
    assert marked.read_bytes() == montage_png(volume, tmp_path / "plain.png").read_bytes()


def test_caption_is_burnt_in_and_stored(tmp_path):
    volume = np.full((64, 64, 4), -1000)
    pixels, chunks = parse(montage_png(volume, tmp_path / "sheet.png", caption="synthetic 10.5 %"))
    plain, _ = parse(montage_png(volume, tmp_path / "plain.png"))
    assert pixels.shape[0] > plain.shape[0]
    assert (pixels[: pixels.shape[0] - plain.shape[0]] == 255).any()
    assert (b"tEXt", b"Description\0synthetic 10.5 %") in chunks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"volume": np.zeros((4, 4))}, "volume must be"),
        ({"overlay": np.zeros((4, 4, 4))}, "overlay has shape"),
        ({"columns": 0}, "must be positive"),
        ({"hu_window": (400, -1000)}, "ascending"),
        ({"caption": "Größe"}, "without a glyph"),
    ],
)
def test_bad_arguments(tmp_path, change, message):
    arguments = {"volume": np.zeros((8, 8, 3)), **change}
    with pytest.raises(ValueError, match=message):
        montage_png(path=tmp_path / "sheet.png", **arguments)
    assert not (tmp_path / "sheet.png").exists()
