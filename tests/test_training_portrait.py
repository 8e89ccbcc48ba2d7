"""What a run shows of itself: its network in words and drawn, its verdict in a sentence."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("keras")
pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

from ctedge_training.learning.networks import build_network
from ctedge_training.learning.portrait import (
    confidence_sentences,
    save_drawing,
    save_summary,
)
from ctedge_training.tasks import CLASSIFIER


def test_the_sentence_of_the_published_example() -> None:
    assert confidence_sentences(("normal", "abnormal"), 0.9634) == [
        "This model is 3.66 percent confident that CT scan is normal",
        "This model is 96.34 percent confident that CT scan is abnormal",
    ]


def test_summary_and_drawing_show_every_layer(tmp_path: Path) -> None:
    network = build_network(CLASSIFIER, (46, 46, 46))
    save_summary(tmp_path / "network.txt", network)
    text = (tmp_path / "network.txt").read_text()
    assert "1,352,897" in text
    assert all(layer.name in text for layer in network.layers)
    assert "884,992" in text  # the parameters of the fourth convolution: no column is cut off
    save_drawing(tmp_path / "network.png", network)
    with Image.open(tmp_path / "network.png") as drawing:
        width, height = drawing.size
        assert height > width  # a box a layer, one below the other
        assert drawing.convert("L").getextrema() == (0, 255)
