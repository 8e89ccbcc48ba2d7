"""Everything tubular: great vessels, pulmonary trees, airways, oesophagus, and rod-shaped bones.

The pulmonary trees fill the lungs by repeated division: each branch runs towards the centre of the
points it feeds, then splits them in two (Wang, Bassingthwaighte: "Area-filling distributive network
model", Math. Comput. Modelling 13, 1990). Radii follow Murray's law, r^3 = sum of r^3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctedge.phantom.anatomy import Anatomy, spine_y_mm, to_image, to_patient
from ctedge.phantom.lattice import Points
from ctedge.phantom.patient import STREAM_VESSELS, Patient
from ctedge.phantom.strokes import Rods

_MURRAY = 1 / 2.8
_BRONCHUS_WALL_MM = 1.1


@dataclass(frozen=True, kw_only=True)
class Tubes:
    """Rods in image coordinates, by what fills them."""

    blood: Rods  # vessels and airway walls: soft tissue
    lumen: Rods  # air inside airways
    bone: Rods
    marrow: Rods
    calcium: Rods


def build(patient: Patient, anatomy: Anatomy) -> Tubes:
    """All tubes of a patient."""
    rng = patient.rng(STREAM_VESSELS)
    trachea, bronchi = _central_airways(patient)
    vessels, companions = [_great_vessels(patient)], []
    for side in (-1, 1):
        tree = _lung_tree(patient, anatomy, rng, side)
        vessels.append(tree)
        companions.append(_accompanying_bronchi(tree))
    airways = Rods.joined([trachea, bronchi, *companions])
    scars = _scars(patient, anatomy, rng)
    shoulders = _shoulders(patient)
    placed = {
        "blood": Rods.joined([*vessels, airways.resized(plus_mm=_BRONCHUS_WALL_MM), scars]),
        "lumen": airways,
        "bone": shoulders,
        "marrow": shoulders.resized(plus_mm=-2.6),
        "calcium": _granulomas(patient, anatomy, rng),
    }
    return Tubes(**{name: _in_image(patient, rods) for name, rods in placed.items()})


def hilum_mm(patient: Patient, side: int) -> tuple[float, float, float]:
    """Where vessels and bronchi enter a lung; side is -1 (right) or 1 (left)."""
    body = patient.body
    return (2 + side * 34.0, -0.16 * body.chest_half_depth_mm, 0.53 * body.lung_height_mm)


def lung_points(anatomy: Anatomy, *, deeper_than_mm: float) -> tuple[Points, Points]:
    """Lattice points inside the lungs (N, 3) in image coordinates, and their depth (N,) in mm."""
    z, y, x = np.nonzero(anatomy.lung > deeper_than_mm)
    lattice = anatomy.lattice
    points = np.stack([lattice.x_mm[x], lattice.y_mm[y], lattice.z_mm[z]], axis=1)
    return points, anatomy.lung[z, y, x].astype(np.float64)


def _in_image(patient: Patient, rods: Rods) -> Rods:
    return Rods(
        start=to_image(patient, rods.start),
        end=to_image(patient, rods.end),
        radius_start=np.maximum(rods.radius_start, 0.0),
        radius_end=np.maximum(rods.radius_end, 0.0),
    )


def _points_in_patient(
    patient: Patient, anatomy: Anatomy, deeper_than_mm: float
) -> tuple[Points, Points]:
    points, depth = lung_points(anatomy, deeper_than_mm=deeper_than_mm)
    x, y = to_patient(patient, points[:, 0], points[:, 1])
    return np.stack([x, y, points[:, 2]], axis=1), depth


def _lung_tree(patient: Patient, anatomy: Anatomy, rng: np.random.Generator, side: int) -> Rods:
    points, depth = _points_in_patient(patient, anatomy, 3.0)
    points = points[(points[:, 0] * side > 0) & (depth > 3.0)]
    count = patient.findings.vessel_targets
    if len(points) < count:
        return Rods.joined([])
    targets = points[rng.choice(len(points), count, replace=False)]
    targets = targets + rng.uniform(-2, 2, targets.shape)
    start, end, feeds, fed = [], [], [], []
    queue = [(np.array(hilum_mm(patient, side)), targets)]
    while queue:
        node, group = queue.pop()
        if len(group) == 1:
            tip, halves = group[0], []
        else:
            middle = group.mean(axis=0)
            reach = rng.uniform(0.3, 0.5) if len(group) > 3 else rng.uniform(0.5, 0.7)
            tip = node + (middle - node) * reach
            axis = (
                np.linalg.eigh(np.cov((group - middle).T))[1][:, -1]
                if len(group) > 2
                else (group[1] - group[0])
            )
            order = np.argsort((group - middle) @ axis)
            cut = int(np.clip(round(len(group) * rng.uniform(0.35, 0.65)), 1, len(group) - 1))
            halves = [group[order[:cut]], group[order[cut:]]]
        # A bend half-way keeps branches from looking ruled.
        bend = (node + tip) / 2 + rng.normal(0, 0.07, 3) * np.linalg.norm(tip - node)
        ends = len(group) * 0.6 + 0.4 if halves else 0.35
        start += [node, bend]
        end += [bend, tip]
        feeds += [len(group), (len(group) + ends) / 2]
        fed += [(len(group) + ends) / 2, ends]
        queue += [(tip, half) for half in halves]
    size = patient.findings.vessel_mm
    return Rods(
        start=np.array(start),
        end=np.array(end),
        radius_start=size * np.array(feeds) ** _MURRAY,
        radius_end=size * np.array(fed) ** _MURRAY,
    )


def _accompanying_bronchi(tree: Rods) -> Rods:
    """Airways beside the larger arteries."""
    large = tree.radius_end > 1.5
    start, end = tree.start[large], tree.end[large]
    size = 0.62 * tree.radius_end[large]
    shift = np.array([0.0, 1.0, 0.25]) * (tree.radius_start[large] + size + 0.8)[:, None]
    return Rods(start=start + shift, end=end + shift, radius_start=size, radius_end=size)


def _central_airways(patient: Patient) -> tuple[Rods, Rods]:
    body = patient.body
    height, radius = body.lung_height_mm, body.trachea_mm
    y = -0.20 * body.chest_half_depth_mm
    carina = (1.0, y - 2, 0.62 * height)
    trachea = Rods.path(
        [(2, y + 8, height + 70), (2, y + 5, 0.95 * height), carina], [radius, radius, radius * 1.1]
    )
    main = []
    for side in (-1, 1):
        x, y_hilum, z = hilum_mm(patient, side)
        main.append(Rods.path([carina, (x * 0.9, y_hilum + 2, z)], [radius * 0.85, radius * 0.66]))
        main.append(
            Rods.path(
                [(x * 0.9, y_hilum + 2, z), (x * 1.25, y_hilum - 8, z - 0.14 * height)],
                [radius * 0.62, radius * 0.4],
            )
        )
    return trachea, Rods.joined(main)


def _great_vessels(patient: Patient) -> Rods:
    body = patient.body
    height, depth, aorta = body.lung_height_mm, body.chest_half_depth_mm, body.aorta_mm
    heart_z = 0.9 * body.dome_left_mm + 0.72 * body.heart_mm
    root = heart_z + 0.5 * body.heart_mm
    arch = max(0.74 * height, root + 25)

    def back(z: float) -> float:
        return float(spine_y_mm(patient, z)) + 20

    ascending = [
        (2, 0.12 * depth, root),
        (-8, 0.14 * depth, 0.5 * (root + arch)),
        (-4, 0.10 * depth, arch - 8),
        (6, -0.05 * depth, arch),
    ]
    descending = [
        (18, -0.3 * depth, arch - 1),
        (24, back(arch) + 3, arch - 16),
        (24, back(arch - 40), arch - 40),
        (24, back(0.3 * height), 0.3 * height),
        (14, back(0.0), 0),
        (6, back(-60.0) + 2, -60),
    ]
    pulmonary = arch - 34
    x_right, y_right, _ = hilum_mm(patient, -1)
    x_left, y_left, _ = hilum_mm(patient, 1)
    neck = height + 60
    parts = [
        Rods.path(ascending + descending, [aorta * 1.2] * 3 + [aorta * 1.1] + [aorta] * 6),
        Rods.path([(14, 0.30 * depth, root - 5), (20, 0.1 * depth, pulmonary)], [13, 12.5]),
        Rods.path([(20, 0.1 * depth, pulmonary), (x_right, y_right, pulmonary - 6)], [11, 8.5]),
        Rods.path([(20, 0.1 * depth, pulmonary), (x_left, y_left, pulmonary + 2)], [11, 8.5]),
        Rods.path(
            [
                (-22, 0.12 * depth, root - 10),
                (-24, 0.1 * depth, arch + 12),
                (-26, 0.05 * depth, neck),
            ],
            [9.5, 8.5, 6],
        ),
        Rods.path(
            [(-22, 0.12 * depth, arch + 8), (10, 0.16 * depth, arch + 16), (30, 0.1 * depth, neck)],
            [7, 6.5, 5.5],
        ),
        Rods.path([(-2, 0.06 * depth, arch), (-14, 0, arch + 30), (-24, -2, neck)], [6.5, 6, 4]),
        Rods.path([(7, -0.06 * depth, arch), (17, -8, neck)], [4.5, 3.5]),
        Rods.path([(15, -0.18 * depth, arch), (28, -14, neck)], [5, 4.5]),
        Rods.path(
            [
                (4, -0.20 * depth - 16, neck),
                (4, -0.2 * depth - 16, 0.6 * height),
                (10, back(40) + 16, 40),
                (16, back(0) + 26, -40),
            ],
            [6, 7, 7.5, 8],
        ),
    ]
    return Rods.joined(parts)


def _shoulders(patient: Patient) -> Rods:
    """Clavicles and the heads of the raised arms."""
    body = patient.body
    height, width, depth = body.lung_height_mm, body.chest_half_width_mm, body.chest_half_depth_mm
    front = depth * 0.55
    rods = []
    for side in (-1, 1):
        rods.append(
            Rods.path(
                [
                    (side * 18, front + 4, 0.90 * height),
                    (side * 60, front + 2, 0.97 * height),
                    (side * (0.85 * width), 0.1 * depth, 1.05 * height + 8),
                ],
                [8.5, 6, 6.5],
            )
        )
        rods.append(
            Rods.path(
                [
                    (side * (width + 14), -0.15 * depth, 1.02 * height + 10),
                    (side * (width + 34), 0.1 * depth, 1.02 * height + 80),
                ],
                [22, 14],
            )
        )
    return Rods.joined(rods)


def _scars(patient: Patient, anatomy: Anatomy, rng: np.random.Generator) -> Rods:
    """Thin bands that run into the lung from the pleura."""
    points, depth = _points_in_patient(patient, anatomy, 0.0)
    rim = points[(depth < 5) & (np.abs(points[:, 0]) > 45)]
    if not len(rim) or not patient.findings.scars:
        return Rods.joined([])
    parts = []
    for origin in rim[rng.choice(len(rim), patient.findings.scars)]:
        inward = np.array([np.sign(origin[0]) * 60, 0, origin[2]]) - origin
        step = inward / max(float(np.linalg.norm(inward)), 1.0) + rng.normal(0, 0.35, 3)
        length = rng.uniform(12, 40)
        points_along = origin + np.linspace(0, 1, 4)[:, None] * step * length
        points_along = points_along + rng.normal(0, 1.2, (4, 3))
        parts.append(Rods.path(points_along.tolist(), (rng.uniform(0.7, 1.7, 4)).tolist()))
    return Rods.joined(parts)


def _granulomas(patient: Patient, anatomy: Anatomy, rng: np.random.Generator) -> Rods:
    """Small calcified nodules."""
    points, _ = _points_in_patient(patient, anatomy, 6.0)
    count = patient.findings.granulomas
    if not count or not len(points):
        return Rods.joined([])
    places = points[rng.choice(len(points), count)]
    size = rng.uniform(1.5, 3.5, count)
    return Rods(start=places, end=places + 0.5, radius_start=size, radius_end=size)
