"""Bones that are no rods: ribs and shoulder blades as shells of the chest wall, sternum, spine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctedge.phantom import tissue
from ctedge.phantom.anatomy import spine_y_mm
from ctedge.phantom.lattice import Floats, blend, cover
from ctedge.phantom.patient import Patient

#: Ribs run this far outside the inner surface of the rib cage; half their depth and height.
_RIB_CENTRE_MM, _RIB_HALF_DEPTH_MM, _RIB_HALF_HEIGHT_MM = 6.0, 3.6, 7.0
_CORTEX_MM = 1.7


@dataclass(frozen=True, kw_only=True)
class Place:
    """Patient coordinates of every pixel of a window, float32 (rows, columns)."""

    x_mm: Floats
    y_mm: Floats
    angle: Floats  # from straight back (0) over either side to straight front (1)

    def __getitem__(self, box: tuple[slice, slice]) -> Place:
        return Place(x_mm=self.x_mm[box], y_mm=self.y_mm[box], angle=self.angle[box])


def chest_wall(hu: Floats, patient: Patient, place: Place, cavity: Floats, z: float) -> None:
    """Draw ribs, sternum and shoulder blades into a slice, in place.

    Args:
        hu: (rows, columns) of the window.
        place: where the window lies.
        cavity: distance from the inner surface of the rib cage, mm, negative in the wall.
        z: height of the slice, mm.
    """
    outward = -cavity
    _ribs(hu, patient, outward, place.angle, z)
    body = patient.body
    t = z / body.lung_height_mm
    if 0.33 < t < 0.93:
        half = 15.0 if t < 0.78 else 15.0 + 12.0 * (t - 0.78) / 0.15
        plate = 6.5 - 6.5 * np.sqrt(np.square(place.x_mm / half) + np.square((outward - 10) / 6.5))
        _bone(hu, patient, np.where(place.y_mm > 0, plate, np.float32(-9)), _edge(patient))
    if 0.42 < t < 1.08:
        _shoulder_blades(hu, patient, outward, place.angle, t)


def spine(hu: Floats, patient: Patient, place: Place, z: float) -> None:
    """Draw vertebral body, disc, canal and processes into a window, in place."""
    body = patient.body
    x, depth = place.x_mm, place.y_mm - np.float32(spine_y_mm(patient, z))
    # Thoracic vertebrae: about 24 mm high with their disc, smaller towards the neck.
    size = 1.14 - 0.28 * float(np.clip(z / body.lung_height_mm, 0, 1.2))
    pitch = 0.097 * body.lung_height_mm + 2.0
    phase = (z + 0.3 * pitch) % pitch
    side = np.abs(x)
    edge = _edge(patient)
    arch = depth + 24.0 * size  # from the centre of the canal
    round_body = 18.5 * size - np.sqrt(np.square(x / 1.12) + np.square(depth))
    round_body = np.minimum(round_body, arch - 7.0)
    if phase < 4.0:
        blend(hu, tissue.DISC, cover(round_body, edge + 0.5))
    else:
        _bone(hu, patient, round_body, edge)
    if phase > 0.25 * pitch:
        ring = 13.5 * size - np.sqrt(np.square(x / 1.2) + np.square(arch))
        # Transverse processes run outwards and back.
        axis = np.abs(arch + 4.0 + 0.45 * side)
        wing = np.minimum(4.6 - 0.9 * axis, 34.0 * size - side)
        _bone(hu, patient, np.maximum(ring, wing), edge + 0.8)
    width = 4.2 if phase > 0.4 * pitch else 2.8
    spike = np.minimum(width - side, np.minimum(-arch - 9.0, arch + 30.0 * size))
    _bone(hu, patient, spike, edge + 0.8)
    canal = 8.0 * size - np.sqrt(np.square(x / 1.1) + np.square(arch))
    blend(hu, tissue.CANAL, cover(canal, edge + 0.4))


def _ribs(hu: Floats, patient: Patient, outward: Floats, angle: Floats, z: float) -> None:
    body = patient.body
    pitch = np.float32(body.rib_pitch_mm)
    # Ribs descend from the spine forwards; the height above the nearest rib's centre line:
    height = np.float32(z) + np.float32(body.rib_drop_mm) * angle
    height = np.abs(height % pitch - pitch / 2)
    across = (outward - np.float32(_RIB_CENTRE_MM)) / np.float32(_RIB_HALF_DEPTH_MM)
    high = height / np.float32(_RIB_HALF_HEIGHT_MM)
    depth = (1 - np.sqrt(across * across + high * high)) * np.float32(_RIB_HALF_DEPTH_MM)
    depth[angle < 0.08] = -9.0  # the joint with the spine
    edge = _edge(patient) + 0.12 * patient.scanner.thickness_mm
    front = np.clip((angle - 0.80) * 20, 0, 1)
    solid = cover(depth, edge)
    inner = cover(depth - np.float32(_CORTEX_MM), edge)
    density = np.float32(body.bone_density)
    value = density * (np.float32(tissue.CORTEX) - (tissue.CORTEX - tissue.MARROW) * inner)
    value += (np.float32(tissue.CARTILAGE) - value) * front
    solid *= np.float32(body.lung_height_mm * 1.02) > z
    blend(hu, value, solid)


def _shoulder_blades(
    hu: Floats, patient: Patient, outward: Floats, angle: Floats, t: float
) -> None:
    low, high = 0.50 - 0.26 * (t - 0.42), 0.22 + 0.16 * abs(t - 0.75)
    reach = (np.minimum(angle - high, low - angle)) * 300
    gap = np.float32(19.0) + 22 * np.clip(angle - 0.30, 0, 1)
    blade = np.minimum(np.float32(2.4 + 2.5 * max(t - 0.8, 0) * 5) - np.abs(outward - gap), reach)
    _bone(hu, patient, np.minimum(blade, np.float32(8)), _edge(patient))


def _bone(hu: Floats, patient: Patient, depth: Floats, edge: float) -> None:
    """A cortex over marrow. `depth` is the distance from the surface, positive inside, mm."""
    inner = cover(depth - np.float32(_CORTEX_MM), edge)
    value = patient.body.bone_density * (tissue.CORTEX - (tissue.CORTEX - tissue.MARROW) * inner)
    blend(hu, value.astype(np.float32), cover(depth, edge))


def _edge(patient: Patient) -> float:
    return patient.scanner.edge_mm + 0.4 * patient.scanner.pixel_mm
