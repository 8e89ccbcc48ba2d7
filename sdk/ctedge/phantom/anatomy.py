"""The smooth part of a patient: signed distances to body, rib cage, lungs, organs, on the lattice.

All distances are in mm and positive inside. Patient coordinates: x to the Left, y Anterior,
z Superior; the origin lies mid-chest in the plane and at the lowest point of the lungs. The lattice
itself lies in image coordinates: shifted and turned as the patient lies on the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ctedge.phantom import tissue
from ctedge.phantom.lattice import STEP_MM, Floats, Lattice, Points, smooth_noise
from ctedge.phantom.patient import STREAM_TEXTURE, Patient

Height = TypeVar("Height", float, Floats)

#: Lung tissue keeps this far from bone and muscle (pleura and extrapleural fat), mm.
PLEURA_MM = 1.5


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """Fields on the lattice, float32 (Z, Y, X): signed distances in mm unless said otherwise."""

    lattice: Lattice
    body: Floats
    muscle: Floats
    cavity: Floats
    lung: Floats
    organ: Floats
    organ_hu: Floats
    fissure: Floats
    first_plane: Floats  # of fat between the layers of muscle
    second_plane: Floats
    grain: Floats  # random texture of unit variance, a few mm wide


def build(patient: Patient) -> Anatomy:
    """All smooth fields of a patient."""
    scanner, body = patient.scanner, patient.body
    lattice = Lattice.covering(
        half_fov_mm=scanner.fov_mm / 2,
        z_low_mm=scanner.z_low_mm - scanner.thickness_mm,
        z_high_mm=scanner.z_low_mm + scanner.slices * scanner.spacing_mm + scanner.thickness_mm,
    )
    rng = patient.rng(STREAM_TEXTURE)
    x, y = to_patient(patient, lattice.x_mm[None, :], lattice.y_mm[:, None])
    x, y = x[None].astype(np.float32), y[None].astype(np.float32)
    z = lattice.z_mm[:, None, None].astype(np.float32)
    wobble = smooth_noise(rng, lattice, 45.0)
    fine_wobble = smooth_noise(rng, lattice, 18.0)
    t = z / np.float32(body.lung_height_mm)
    cavity = _cavity(patient, x, y, z, t) + 1.5 * wobble
    muscle, outer = _trunk(patient, x, y, t)
    outer = np.maximum(outer + 1.5 * wobble, muscle + 3.0)
    heart = _heart(patient, x, y, z) + 0.8 * fine_wobble
    diaphragm = _diaphragm(patient, x, y, z) + 1.2 * wobble
    centre = np.maximum(_mediastinum(patient, x, y, t) + 1.5 * fine_wobble, heart + 3.0)
    lung = _soft_min(cavity - PLEURA_MM, diaphragm - 2.0, 5.0)
    lung = _soft_min(lung, -centre, 5.0)
    lung = _soft_min(lung, _apex(patient, x, y, z), 6.0) + 0.5 * fine_wobble
    organ, organ_hu = heart, np.full(lattice.shape, tissue.HEART, dtype=np.float32)
    low = int(np.searchsorted(lattice.z_mm, 1.2 * body.dome_right_mm))
    below = np.minimum(cavity[:low] - 3.0, -diaphragm[:low] - 1.0)
    belly, belly_hu = _abdomen(patient, x + 3 * fine_wobble[:low], y, z[:low], below)
    organ_hu[:low] = np.where(heart[:low] > belly, organ_hu[:low], belly_hu)
    organ[:low] = np.maximum(belly, heart[:low])
    return Anatomy(
        lattice=lattice,
        body=outer,
        muscle=muscle + 1.0 * wobble,
        cavity=cavity,
        lung=lung,
        organ=organ,
        organ_hu=organ_hu,
        fissure=_fissure(patient, y, z) + 4.0 * wobble,
        first_plane=-cavity - 20.0 + 3.0 * fine_wobble + 3.0 * wobble,
        second_plane=-cavity - 40.0 + 6.0 * fine_wobble - 5.0 * wobble,
        grain=rng.standard_normal(lattice.shape, dtype=np.float32),
    )


def to_patient(patient: Patient, x_mm: Points, y_mm: Points) -> tuple[Points, Points]:
    """Image coordinates to patient coordinates."""
    cosine, sine = np.cos(patient.scanner.tilt_rad), np.sin(patient.scanner.tilt_rad)
    dx, dy = x_mm - patient.scanner.offset_mm[0], y_mm - patient.scanner.offset_mm[1]
    return cosine * dx + sine * dy, cosine * dy - sine * dx


def to_image(patient: Patient, points: Points) -> Points:
    """Patient coordinates (N, 3) to image coordinates (N, 3)."""
    cosine, sine = np.cos(patient.scanner.tilt_rad), np.sin(patient.scanner.tilt_rad)
    x, y = points[:, 0], points[:, 1]
    return np.stack(
        [
            cosine * x - sine * y + patient.scanner.offset_mm[0],
            sine * x + cosine * y + patient.scanner.offset_mm[1],
            points[:, 2],
        ],
        axis=1,
    )


def spine_y_mm(patient: Patient, z_mm: Height) -> Height:
    """Where the centre of the vertebral body lies at a height: a gentle kyphosis."""
    body = patient.body
    bend = (z_mm / body.lung_height_mm - 0.5) ** 2 * 4
    return -body.chest_half_depth_mm + 27.0 + body.kyphosis_mm * bend


def _cavity(patient: Patient, x: Floats, y: Floats, z: Floats, t: Floats) -> Floats:
    """Inner surface of the rib cage: an egg that narrows towards the apex."""
    body = patient.body
    width = body.chest_half_width_mm * np.sqrt(
        np.clip(1 - (np.clip(t - 0.25, 0, None) / 0.86) ** 2.4, 0.12, 1)
    )
    front = body.chest_half_depth_mm * (1 - 0.45 * np.clip((t - 0.3) / 0.7, 0, 1) ** 1.5)
    back = body.chest_half_depth_mm * (1 - 0.22 * np.clip((t - 0.55) / 0.45, 0, 1.3) ** 2)
    shell = _superellipse(x, y, width, np.where(y > 0, front, back), body.roundness)
    return np.asarray(np.minimum(shell, body.lung_height_mm + 14 - z), dtype=np.float32)


def _trunk(patient: Patient, x: Floats, y: Floats, t: Floats) -> tuple[Floats, Floats]:
    """Outer surfaces of muscle and of skin; arms lie above the head, so shoulders are wide."""
    body = patient.body
    top = np.clip((t - 0.72) / 0.4, 0, 1)
    width = body.chest_half_width_mm + 12 + body.muscle_mm * (0.8 + 1.2 * top)
    front = (body.chest_half_depth_mm + 12 + 0.8 * body.muscle_mm) * (1 - 0.33 * top)
    back = (body.chest_half_depth_mm + 23 + body.muscle_mm) * (1 - 0.05 * top)
    muscle = _superellipse(x, y, width, np.where(y > 0, front, back), 2.35)
    fat = body.fat_mm * (0.8 + 0.35 * (1 - t))
    depth = np.where(y > 0, front + 0.8 * fat, back + 0.7 * fat)
    outer = _superellipse(x, y, width + fat, depth, 2.4)
    if body.breast_mm:
        side = (np.abs(x) - 0.56 * body.chest_half_width_mm) / (0.62 * body.chest_half_width_mm)
        bump = np.clip(1 - side**2 - ((t - 0.42) / 0.35) ** 2, 0, None)
        outer = outer + body.breast_mm * bump * np.clip(y / 40, 0, 1)
    return muscle, outer.astype(np.float32)


def _superellipse(x: Floats, y: Floats, width: Floats, depth: Floats, power: float) -> Floats:
    """Radial distance to a superellipse of half axes `width` and `depth`."""
    rho = np.abs(x / width) ** np.float32(power) + np.abs(y / depth) ** np.float32(power)
    rho **= np.float32(1 / power)
    radius = np.hypot(x, y)
    distance = radius / np.maximum(rho, 1e-3) - radius
    return np.where(rho < 1e-3, np.minimum(width, depth), distance)


def _heart(patient: Patient, x: Floats, y: Floats, z: Floats) -> Floats:
    """An ellipsoid that points left, forwards and down, resting on the diaphragm."""
    body = patient.body
    size = body.heart_mm
    dx, dy = x - body.heart_left_mm, y - 0.30 * body.chest_half_depth_mm
    dz = z - (0.9 * body.dome_left_mm + 0.72 * size)
    long = (0.78 * dx + 0.42 * dy - 0.46 * dz) / (1.32 * size)
    deep = (-0.47 * dx + 0.88 * dy) / (0.95 * size)
    high = (0.41 * dx + 0.22 * dy + 0.885 * dz) / (1.02 * size)
    return _ellipsoid(long, deep, high, size)


def _ellipsoid(a: Floats, b: Floats, c: Floats, size: float) -> Floats:
    return np.asarray((1 - np.sqrt(a * a + b * b + c * c)) * size, dtype=np.float32)


def _diaphragm(patient: Patient, x: Floats, y: Floats, z: Floats) -> Floats:
    """Height above the two domes, measured across them."""
    body = patient.body
    half_width, half_depth = body.chest_half_width_mm, body.chest_half_depth_mm
    side = np.where(x < 0, np.float32(-0.50 * half_width), np.float32(0.52 * half_width))
    u = (x - side) / (0.52 * half_width)
    # Between the domes the central tendon hardly sags.
    u = np.where((x - side) * x < 0, 0.45 * u, u)
    v = (y - 0.22 * half_depth) / (1.05 * half_depth)
    left = np.clip(x / 50 + 0.5, 0, 1)
    dome = body.dome_right_mm + (body.dome_left_mm - body.dome_right_mm) * left
    drop = 0.82 * dome
    height = dome - drop * (u * u + v * v)
    slope = 2 * drop * np.hypot(u / (0.52 * half_width), v / (1.05 * half_depth))
    return np.asarray((z - height) / np.sqrt(1 + slope**2), dtype=np.float32)


def _mediastinum(patient: Patient, x: Floats, y: Floats, t: Floats) -> Floats:
    """What lies between the lungs, without the heart: vessels' bed, hila, spine and its muscles."""
    body = patient.body
    depth = body.chest_half_depth_mm
    spine_y = spine_y_mm(patient, t * body.lung_height_mm)
    septum = 5.0 - np.abs(x - 2.0 - 0.08 * y)
    middle = body.mediastinum_mm * (1.06 - 0.30 * np.clip(t - 0.62, 0, 1) / 0.38)
    trunk = _ellipsoid((x - 3) / middle, (y + 0.08 * depth) / (0.62 * depth), 0 * t, 30.0)
    trunk = trunk - 40 * np.clip(0.33 - t, 0, None)
    hilum_z = (t - 0.53) * body.lung_height_mm
    hila = _ellipsoid((np.abs(x - 2) - 30) / 17, (y + 0.16 * depth) / 17, hilum_z / 26, 17.0)
    vertebra = 21.0 - np.hypot(x, y - spine_y)
    behind = np.minimum(spine_y - y, 27.0 + 0.55 * np.clip(spine_y - y, 0, 40) - np.abs(x))
    aorta = body.aorta_mm + 2.5 - np.hypot(x - 24, y - spine_y - 20)
    aorta = aorta - 90 * np.clip(t - 0.74, 0, None)
    parts = (septum, trunk, hila, vertebra, behind, aorta)
    whole: Floats = parts[0]
    for part in parts[1:]:
        whole = _soft_max(whole, part, 4.0)
    return np.asarray(whole, dtype=np.float32)


def _apex(patient: Patient, x: Floats, y: Floats, z: Floats) -> Floats:
    """Below the rounded top of each lung."""
    body = patient.body
    dx = np.abs(x) - 0.36 * body.chest_half_width_mm
    dy = (y + 0.22 * body.chest_half_depth_mm) / 1.7
    drop = (dx * dx + dy * dy) / 46
    slope = np.sqrt(dx * dx + dy * dy) / 23
    return np.asarray((body.lung_height_mm - drop - z) / np.sqrt(1 + slope**2), dtype=np.float32)


def _abdomen(
    patient: Patient, x: Floats, y: Floats, z: Floats, below: Floats
) -> tuple[Floats, Floats]:
    """Liver, spleen and stomach below the diaphragm; signed distance and HU of their union."""
    body = patient.body
    width, depth = body.chest_half_width_mm, body.chest_half_depth_mm
    # The liver's left lobe thins out across the midline in front.
    liver = np.minimum(below, (0.30 * width + 0.35 * y - x) * 0.9)
    # The crura and the fat around spine and aorta.
    liver = np.minimum(liver, np.hypot(x - 6, 0.9 * (y - spine_y_mm(patient, z) + 4)) - 42.0)
    dome = body.dome_left_mm
    spleen = _ellipsoid((x - 0.66 * width) / 34, (y + 0.45 * depth) / 46, (z - 0.3 * dome) / 48, 34)
    stomach = _ellipsoid((x - 0.5 * width) / 42, (y - 0.2 * depth) / 40, (z - 0.45 * dome) / 40, 40)
    spleen, stomach = np.minimum(spleen, below), np.minimum(stomach, below - 2.0)
    # The patient lies on the back: gas rises to the front of the stomach.
    gas = np.clip((y - 0.36 * depth) / STEP_MM + 0.5, 0, 1) * np.clip(stomach / STEP_MM - 0.5, 0, 1)
    content = tissue.STOMACH_FLUID + (tissue.STOMACH_GAS - tissue.STOMACH_FLUID) * gas
    hu = np.where(
        liver > np.maximum(spleen, stomach),
        np.float32(tissue.LIVER),
        np.where(spleen > stomach, np.float32(tissue.SPLEEN), content),
    )
    return np.maximum(liver, np.maximum(spleen, stomach)).astype(np.float32), hu.astype(np.float32)


def _fissure(patient: Patient, y: Floats, z: Floats) -> Floats:
    """Distance from the plane of the oblique fissure."""
    body = patient.body
    depth = body.chest_half_depth_mm
    rise = 0.55 * body.lung_height_mm / (2 * depth)
    plane = z - (0.42 * body.lung_height_mm - rise * y)
    return np.asarray(plane / np.sqrt(1 + rise**2), dtype=np.float32)


def _soft_min(a: Floats, b: Floats, width: float) -> Floats:
    """Minimum with rounded edges: the quadratic one of Quilez, "Smooth minimum", 2013."""
    blend = np.abs(a - b)
    np.subtract(np.float32(width), blend, out=blend)
    np.maximum(blend, 0, out=blend)
    blend *= blend
    blend *= np.float32(-0.25 / width)
    blend += np.minimum(a, b)
    return blend


def _soft_max(a: Floats, b: Floats, width: float) -> Floats:
    """Maximum with rounded edges."""
    return -_soft_min(-a, -b, width)
