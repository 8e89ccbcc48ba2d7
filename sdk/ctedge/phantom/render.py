"""Scanning a patient: from the continuous model to voxels, at full size or at a training grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctedge.phantom import anatomy as anatomy_module
from ctedge.phantom import bones, lungs, tissue, tubes
from ctedge.phantom.anatomy import to_patient
from ctedge.phantom.lattice import Floats, Points, blend, cover
from ctedge.phantom.patient import NATIVE_PIXELS, Patient
from ctedge.phantom.scanner import Noise, table
from ctedge.phantom.strokes import Coverage, Grid, Rods, draw
from ctedge.phantom.window import Window, bounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A synthetic chest CT and its exact truth.

    Attributes:
        voxels: int16 HU (X, Y, Z), axes growing towards Left, Anterior, Superior; X is contiguous.
        affine: (4, 4) float64, voxel index to mm in RAS+.
        lung_mask: bool, like voxels. Both lungs with their vessels; no mediastinum, no hila.
        lesion_mask: bool, like voxels, a part of the lungs.
        patient: what was rendered.
    """

    voxels: NDArray[np.int16]
    affine: NDArray[np.float64]
    lung_mask: NDArray[np.bool_]
    lesion_mask: NDArray[np.bool_]
    patient: Patient

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along Left, Anterior, Superior."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @property
    def score(self) -> float:
        """100 x lesion volume / lung volume, of these very masks."""
        return 100.0 * int(self.lesion_mask.sum()) / max(int(self.lung_mask.sum()), 1)

    @property
    def label(self) -> str:
        """The class: "abnormal" where there is any lesion, otherwise "normal"."""
        return "abnormal" if self.lesion_mask.any() else "normal"


def render(patient: Patient, *, shape: tuple[int, int, int] | None = None) -> Phantom:
    """Scan a patient.

    Args:
        patient: from `draw_patient`.
        shape: (X, Y, Z) voxels; None is the scanner's own 512 x 512 x slices. The field of view
            belongs to the patient: voxel i reads the native scan at i * (n_native - 1) / (n - 1),
            so a coarse shape is what linear resampling makes of the full scan.

    Raises:
        ValueError: a shape of fewer than two voxels an axis, or of more than 4096.
    """
    wanted = patient.native_shape if shape is None else shape
    if len(wanted) != 3 or any(not 2 <= n <= 4096 for n in wanted):
        raise ValueError(f"shape must be three sizes from 2 to 4096, got {shape}")
    columns, rows, heights = (
        np.linspace(0, native - 1, count)
        for native, count in zip(patient.native_shape, wanted, strict=True)
    )
    below = np.minimum(np.floor(heights + 1e-9).astype(int), patient.scanner.slices - 1)
    share = np.clip(heights - below, 0, 1).astype(np.float32)
    share[share < 1e-6] = 0.0
    needed = np.unique(np.concatenate([below, below[share > 0] + 1]))
    painter = _Painter(patient, rows=rows, columns=columns, slices=needed)
    size = wanted[::-1]
    voxels = np.empty(size, dtype=np.int16)
    lung_mask, lesion_mask = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    held: dict[int, tuple[Floats, Floats, Floats]] = {}
    for i, (low, mix) in enumerate(zip(below.tolist(), share.tolist(), strict=True)):
        pair = (low, low + 1) if mix else (low,)
        held = {k: held[k] if k in held else painter.slice(k) for k in pair}
        hu, lung, lesion = held[low]
        if mix:
            other = held[low + 1]
            hu, lung, lesion = (
                a + (b - a) * np.float32(mix)
                for a, b in zip((hu, lung, lesion), other, strict=True)
            )
        np.rint(hu, out=voxels[i], casting="unsafe")
        np.greater(lung, 0, out=lung_mask[i])
        np.greater(lesion, 0, out=lesion_mask[i])
    lesion_mask &= lung_mask
    return Phantom(
        voxels=voxels.transpose(2, 1, 0),
        affine=_affine(patient, wanted),
        lung_mask=lung_mask.transpose(2, 1, 0),
        lesion_mask=lesion_mask.transpose(2, 1, 0),
        patient=patient,
    )


def _affine(patient: Patient, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    scanner = patient.scanner
    steps = [
        size * (native - 1) / (n - 1)
        for size, native, n in zip(
            (scanner.pixel_mm, scanner.pixel_mm, scanner.spacing_mm),
            patient.native_shape,
            shape,
            strict=True,
        )
    ]
    corner = (NATIVE_PIXELS - 1) / 2 * scanner.pixel_mm
    affine = np.diag([-steps[0], steps[1], steps[2], 1.0])
    affine[:3, 3] = (corner, -corner, scanner.origin_z_mm)
    return affine


class _Painter:
    """Paints native slices of one patient at the wanted rows and columns."""

    def __init__(
        self, patient: Patient, *, rows: Points, columns: Points, slices: NDArray[np.intp]
    ) -> None:
        scanner = patient.scanner
        self._patient = patient
        self._x_mm = (columns - (NATIVE_PIXELS - 1) / 2) * scanner.pixel_mm
        self._y_mm = (rows - (NATIVE_PIXELS - 1) / 2) * scanner.pixel_mm
        self._edge = float(np.hypot(scanner.edge_mm, scanner.pixel_mm))
        self._model = anatomy_module.build(patient)
        self._lungs = lungs.build(patient, self._model)
        self._noise = Noise(patient, rows, columns)
        self._row = {int(k): i for i, k in enumerate(slices)}
        self._tubes = self._draw_tubes(slices)
        self._windows()

    def _draw_tubes(self, slices: NDArray[np.intp]) -> dict[str, Coverage]:
        scanner = self._patient.scanner
        grid = Grid(
            x_mm=self._x_mm,
            y_mm=self._y_mm,
            z_mm=scanner.z_low_mm + slices * scanner.spacing_mm,
            edge_mm=self._edge,
            thickness_mm=scanner.thickness_mm,
        )
        parts = tubes.build(self._patient, self._model)
        rods: dict[str, Rods] = vars(parts)
        return {name: draw(part, grid) for name, part in rods.items() if len(part.start)}

    def _windows(self) -> None:
        """Readers over body, chest cavity and spine, and what all slices share."""
        patient, model = self._patient, self._model
        self._body = Window.around(model, model.body.max(axis=0), self._x_mm, self._y_mm)
        self._cavity = Window.around(model, model.cavity.max(axis=0), self._x_mm, self._y_mm)
        x, y = to_patient(patient, self._x_mm[None, :], self._y_mm[:, None])
        x, y = x.astype(np.float32), y.astype(np.float32)
        self._place = bones.Place(x_mm=x, y_mm=y, angle=np.arctan2(np.abs(x), -y) / np.pi)
        near_spine = (
            (np.abs(x) < 45)
            & (y < -patient.body.chest_half_depth_mm + 62)
            & (y > -patient.body.chest_half_depth_mm - 50)
        )
        self._spine = bounding(near_spine)
        outline = model.body.max(axis=(0, 2))
        back = float(model.lattice.y_mm[np.flatnonzero(outline > 0)[0]])
        self._backdrop = table(patient, self._x_mm, self._y_mm, back)
        radius = np.hypot(self._x_mm[None, :], self._y_mm[:, None])
        self._outside = radius > patient.scanner.fov_mm / 2 if patient.scanner.circular else None

    def slice(self, index: int) -> tuple[Floats, Floats, Floats]:
        """HU, distance inside the lung, distance inside a lesion; float32 (rows, columns)."""
        z = self._patient.scanner.z_low_mm + index * self._patient.scanner.spacing_mm
        hu = self._backdrop.copy()
        depth = self._paint_wall(hu, z)
        lung, lesion = self._paint_cavity(hu, z, index)
        self._paint_tubes(hu, index)
        bones.spine(hu[self._spine], self._patient, self._place[self._spine], z)
        noise = self._noise.plane(index)
        noise *= np.float32(self._patient.scanner.noise_hu)
        # Quanta are scarcest behind the thickest tissue.
        noise *= np.float32(0.65)
        noise[self._body.box] *= 1 + np.clip(depth / 110, 0, 0.75)
        hu += noise
        np.clip(hu, tissue.PADDING, tissue.HU_MAX, out=hu)
        if self._outside is not None:
            hu[self._outside] = tissue.PADDING
        return hu, lung, lesion

    def _paint_wall(self, hu: Floats, z: float) -> Floats:
        """Skin, fat, muscle and the bones of the chest wall; returns the depth below the skin."""
        model, window, edge = self._model, self._body, self._edge
        view = hu[window.box]
        depth, muscle = window.reader.at(model.body, z), window.reader.at(model.muscle, z)
        cavity = window.reader.at(model.cavity, z)
        planes = np.abs(window.reader.at(model.first_plane, z))
        np.minimum(planes, np.abs(window.reader.at(model.second_plane, z)), out=planes)
        grain = window.reader.at(model.grain, z)
        blend(view, tissue.SKIN, cover(depth, edge))
        blend(view, np.float32(tissue.FAT) + 9 * grain, cover(depth - np.float32(2.2), edge))
        meat = cover(muscle, edge + 0.6)
        meat *= 1 - np.float32(0.85) * np.clip(1.2 - planes * np.float32(0.6), 0, 1)
        blend(view, np.float32(tissue.MUSCLE) + 5 * grain, meat)
        bones.chest_wall(view, self._patient, self._place[window.box], cavity, z)
        return depth

    def _paint_cavity(self, hu: Floats, z: float, index: int) -> tuple[Floats, Floats]:
        """Mediastinal fat, organs and lungs; returns the lung and lesion distances."""
        model, window, scanner = self._model, self._cavity, self._patient.scanner
        view, reader = hu[window.box], window.reader
        up, down = z + 0.45 * scanner.thickness_mm, z - 0.45 * scanner.thickness_mm
        cavity, grain = reader.at(model.cavity, z), reader.at(model.grain, z)
        # Fat with strands between the organs; above the lungs the muscles of the neck.
        neck = np.clip((z / self._patient.body.lung_height_mm - 0.97) * 12, 0, 0.9)
        filling = np.clip(grain - 0.9, 0, 1) * np.float32(60)
        filling += np.float32(tissue.FAT + (tissue.MUSCLE - tissue.FAT) * neck)
        blend(view, filling, cover(cavity, self._edge))
        high, low = reader.at(model.organ, up), reader.at(model.organ, down)
        organ = cover((high + low) * np.float32(0.5), np.abs(high - low) + np.float32(self._edge))
        blend(view, reader.at(model.organ_hu, z) + 4 * grain, organ)
        high, low = reader.at(model.lung, up), reader.at(model.lung, down)
        depth = (high + low) * np.float32(0.5)
        value, lesion = self._lung_values(depth, grain, z)
        blend(view, value, self._motion(depth, np.abs(high - low) + np.float32(self._edge), z))
        return window.whole(depth, hu.shape), window.whole(lesion, hu.shape)

    def _motion(self, depth: Floats, width: Floats, z: float) -> Floats:
        """Coverage by lung; where the patient moved, contours are double."""
        findings = self._patient.findings
        low, high = findings.motion_z_mm
        if not findings.motion_mm or not low < z < high:
            return cover(depth, width)
        shift = np.float32(findings.motion_mm * np.sin(np.pi * (z - low) / (high - low)))
        return (cover(depth + shift, width) + cover(depth - shift, width)) * np.float32(0.5)

    def _lung_values(self, depth: Floats, grain: Floats, z: float) -> tuple[Floats, Floats]:
        findings, plan, fields = self._patient.findings, self._patient.lesions, self._lungs
        reader = self._cavity.reader
        value = reader.at(fields.parenchyma_hu, z) + np.float32(findings.texture_hu) * grain
        line = np.abs(reader.at(self._model.fissure, z)) / np.float32(1.2)
        strength = np.float32(110.0 / (1 + 0.4 * self._patient.scanner.thickness_mm))
        value += strength * np.clip(1.2 - line, 0, 1)
        if fields.collapse_mm is not None:
            band = (reader.at(fields.collapse_mm, z) - depth) / np.float32(3.5) + np.float32(0.6)
            value += np.float32(max(findings.atelectasis_hu, 150.0)) * np.clip(band, 0, 1)
        if fields.lesion is None:
            return value, np.full(depth.shape, -9.0, dtype=np.float32)
        lesion = reader.at(fields.lesion, z)
        soft = cover(lesion, 5.0)
        glass = np.float32(plan.ground_glass_hu) * (1 + np.float32(plan.paving) * grain)
        value = np.minimum(value + glass * soft, np.maximum(value, np.float32(-60)))
        if fields.dense is not None:
            dense = cover(np.minimum(reader.at(fields.dense, z), lesion), 5.0)
            blend(value, np.float32(tissue.CONSOLIDATION) + 10 * grain, dense)
        return value, lesion

    def _paint_tubes(self, hu: Floats, index: int) -> None:
        density = self._patient.body.bone_density
        for name, value in (
            ("blood", tissue.BLOOD),
            ("lumen", tissue.TRACHEA),
            ("bone", tissue.CORTEX * density),
            ("marrow", tissue.MARROW * density),
            ("calcium", tissue.CALCIUM),
        ):
            if name not in self._tubes:
                continue
            share = self._tubes[name][self._row[index]]
            if share.any():
                blend(hu, value, share * np.float32(1 / 255))
