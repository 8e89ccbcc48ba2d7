"""What fills the lungs: parenchyma, dependent and apical opacities, and the lesions.

Fields on the lattice, float32 (Z, Y, X). The lesion field falls off from the centres of blobs; the
threshold is the quantile that gives the wanted share of the lung, so any share up to all of the
lung can be reached and none is approximate by more than the lattice is coarse.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctedge.phantom.anatomy import Anatomy, to_patient
from ctedge.phantom.lattice import STEP_MM, Floats, Points, smooth_noise
from ctedge.phantom.patient import STREAM_FINDINGS, STREAM_LESIONS, Patient

Mask = NDArray[np.bool_]

#: Fields are filled this far outside the lungs, so that reading them at the rim stays linear.
_RIM_MM = -9.0
_FAR_MM = 99.0


@dataclass(frozen=True, kw_only=True)
class LungFields:
    """`lesion` and `dense` are None where there are none."""

    parenchyma_hu: Floats
    collapse_mm: Floats | None  # pleural opacities reach this deep
    lesion: Floats | None  # mm inside the edge of a lesion
    dense: Floats | None  # mm inside the edge of a consolidation


def build(patient: Patient, anatomy: Anatomy) -> LungFields:
    """All fields of a patient's lungs."""
    lesion, dense = _lesions(patient, anatomy)
    parenchyma, collapse = _background(patient, anatomy)
    return LungFields(parenchyma_hu=parenchyma, collapse_mm=collapse, lesion=lesion, dense=dense)


def _background(patient: Patient, anatomy: Anatomy) -> tuple[Floats, Floats | None]:
    findings, body = patient.findings, patient.body
    rng = patient.rng(STREAM_FINDINGS, 1)
    lattice = anatomy.lattice
    _, y = to_patient(patient, lattice.x_mm[None, :], lattice.y_mm[:, None])
    z = lattice.z_mm[:, None, None].astype(np.float32)
    back = (-y / body.chest_half_depth_mm).astype(np.float32)[None]
    broad = smooth_noise(rng, lattice, 32.0)
    lobular = smooth_noise(rng, lattice, 17.0)
    hu = np.float32(findings.lung_hu) + findings.gravity_hu * 0.5 * back + 9.0 * broad
    if findings.mosaic_hu:
        hu = hu + findings.mosaic_hu * np.tanh(3.0 * lobular + broad)
    if findings.emphysema_hu:
        upper = np.clip(z / body.lung_height_mm + 0.2, 0.3, 1.0)
        hu = hu - findings.emphysema_hu * np.clip(1.5 * lobular - 0.4, 0, 1) * upper
    hu = np.maximum(hu, np.float32(-985)).astype(np.float32)
    depth = np.zeros((1, 1, 1), dtype=np.float32)
    if findings.atelectasis_hu:
        dependent = np.clip(2.2 * (back - 0.35), 0, 1)
        patchy = np.clip(0.65 + 0.45 * broad + 0.25 * lobular, 0, 1.2)
        depth = findings.atelectasis_mm * dependent * patchy
    if findings.apical_cap_mm:
        apical = np.clip((z / body.lung_height_mm - 0.88) * 12, 0, 1)
        depth = np.maximum(depth, findings.apical_cap_mm * apical * (1 + 0.4 * lobular))
    if depth.size == 1:
        return hu, None
    return hu, np.ascontiguousarray(depth - 3.0, dtype=np.float32)


def _lesions(patient: Patient, anatomy: Anatomy) -> tuple[Floats | None, Floats | None]:
    plan = patient.lesions
    if plan.share == 0.0:
        return None, None
    rng = patient.rng(STREAM_LESIONS, 1)
    lattice, scanner = anatomy.lattice, patient.scanner
    near = anatomy.lung > _RIM_MM
    iz, iy, ix = np.nonzero(near)
    points = np.stack([lattice.x_mm[ix], lattice.y_mm[iy], lattice.z_mm[iz]], axis=1)
    depth = anatomy.lung[near]
    top = scanner.z_low_mm + (scanner.slices - 1) * scanner.spacing_mm
    scanned = (points[:, 2] >= scanner.z_low_mm) & (points[:, 2] <= top)
    inside = (depth > 0) & scanned
    # Equal volumes first: blobs then share out whatever the threshold asks for.
    radius = (3 * inside.sum() * STEP_MM**3 / (4 * np.pi * plan.blobs)) ** (1 / 3)
    centres = _centres(patient, points, depth, inside, rng)
    roughness = plan.raggedness * (
        0.7 * smooth_noise(rng, lattice, 14.0)[near] + 0.5 * smooth_noise(rng, lattice, 8.0)[near]
    )
    cored = rng.random(plan.blobs) < plan.consolidated
    whole = np.full(len(points), -9.0, dtype=np.float32)
    cores = np.full(len(points), -9.0, dtype=np.float32)
    single = points.astype(np.float32)
    for centre, has_core in zip(centres, cored, strict=True):
        size = radius * np.exp(rng.normal(0, plan.spread))
        axes = size * np.exp(rng.normal(0, 0.2, 3))
        offset = (single - centre.astype(np.float32)) / axes.astype(np.float32)
        blob = 1 - np.sqrt(np.einsum("ij,ij->i", offset, offset))
        np.maximum(whole, blob, out=whole)
        if has_core:
            np.maximum(cores, blob, out=cores)
    # Roughness in proportion to the size that the lesions will have.
    scale = plan.share ** (1 / 3)
    whole = whole + scale * roughness
    cores = cores + scale * (1.3 * roughness - rng.uniform(0.15, 0.5))
    volumes = []
    for field in (whole, cores):
        volume = np.full(lattice.shape, -_FAR_MM, dtype=np.float32)
        volume[near] = field * radius
        volumes.append(volume)
    level = _level(volumes[0], anatomy.lung, np.flatnonzero(near)[scanned], plan.share, rng)
    fields: list[Floats] = [np.clip(volume - level, -_FAR_MM, _FAR_MM) for volume in volumes]
    return fields[0], fields[1] if cored.any() else None


def _level(
    field: Floats, lung: Floats, corners: NDArray[np.intp], share: float, rng: np.random.Generator
) -> np.float32:
    """The threshold that `share` of the lung exceeds, between the points of the lattice too.

    Reading a lattice linearly flattens peaks, so its points alone would promise too much: one
    random place is read in every cell instead. `corners` are flat indices of cells.
    """
    if share == 1.0:
        return np.float32(-np.inf)
    steps = [int(n) for n in np.cumprod((1, *lung.shape[:0:-1]))]
    corners = corners[corners < field.size - sum(steps)]
    shares = rng.random((3, len(corners)), dtype=np.float32)
    values, depth = np.zeros((2, len(corners)), dtype=np.float32)
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.prod([s if side else 1 - s for s, side in zip(shares, corner, strict=True)], 0)
        index = corners + sum(step * side for step, side in zip(steps, corner, strict=True))
        values += weight * field.ravel()[index]
        depth += weight * lung.ravel()[index]
    return np.float32(np.quantile(values[depth > 0], 1 - share))


def _centres(
    patient: Patient,
    points: Points,
    depth: Floats,
    inside: Mask,
    rng: np.random.Generator,
) -> Points:
    """Blob centres (N, 3): by taste of the patient peripheral, posterior and in the lower zones."""
    plan, body = patient.lesions, patient.body
    candidates = points[inside]
    rim = np.exp(-np.abs(depth[inside] - 9.0) / 9.0)
    back = -candidates[:, 1] / body.chest_half_depth_mm
    low = 0.5 - candidates[:, 2] / body.lung_height_mm
    odds = (1 - 0.9 * plan.peripheral * (1 - rim)) * np.exp(
        plan.posterior * back + 1.5 * plan.lower * low
    )
    chosen = rng.choice(len(candidates), plan.blobs, p=odds / odds.sum())
    return np.asarray(candidates[chosen] + rng.uniform(-2, 2, (plan.blobs, 3)))
