"""Who is scanned, and on what scanner: everything a phantom is rendered from, drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NATIVE_PIXELS = 512

#: Lesion shares of the classifier's abnormal patients (log-uniform between these).
SHARE_LOW, SHARE_HIGH = 0.01, 0.60

#: Independent random streams of one patient: the same seed with another lesion share is the same
#: patient on the same scanner.
STREAM_ANATOMY, STREAM_SCANNER, STREAM_FINDINGS, STREAM_LESIONS, STREAM_TEXTURE = 1, 2, 3, 4, 5
STREAM_VESSELS, STREAM_NOISE, STREAM_LABEL = 6, 7, 8


@dataclass(frozen=True, kw_only=True)
class Body:
    """Size and shape of the trunk. z = 0 is the lowest point of the lungs, y = 0 mid-chest."""

    chest_half_width_mm: float
    chest_half_depth_mm: float
    lung_height_mm: float
    roundness: float
    fat_mm: float
    muscle_mm: float
    breast_mm: float
    dome_right_mm: float
    dome_left_mm: float
    heart_mm: float
    heart_left_mm: float
    mediastinum_mm: float
    aorta_mm: float
    trachea_mm: float
    kyphosis_mm: float
    rib_pitch_mm: float
    rib_drop_mm: float
    bone_density: float


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What fools a network; drawn with the same probabilities for normal and abnormal."""

    lung_hu: float
    gravity_hu: float
    texture_hu: float
    mosaic_hu: float
    emphysema_hu: float
    atelectasis_hu: float
    atelectasis_mm: float
    apical_cap_mm: float
    scars: int
    granulomas: int
    vessel_mm: float
    vessel_targets: int
    motion_mm: float
    motion_z_mm: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Lesions:
    """Ground glass and consolidation. `share` is lesion volume over lung volume, 0..1."""

    share: float
    blobs: int
    spread: float
    peripheral: float
    posterior: float
    lower: float
    raggedness: float
    ground_glass_hu: float
    paving: float
    consolidated: float


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """Field of view, slices, dose and reconstruction kernel."""

    fov_mm: float
    offset_mm: tuple[float, float]
    tilt_rad: float
    z_low_mm: float
    spacing_mm: float
    thickness_mm: float
    slices: int
    noise_hu: float
    kernel: tuple[float, float, float]
    edge_mm: float
    table_gap_mm: float
    table_radius_mm: float
    circular: bool
    origin_z_mm: float

    @property
    def pixel_mm(self) -> float:
        """Native pixel size."""
        return self.fov_mm / NATIVE_PIXELS


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A synthetic patient: `draw_patient` makes one, `render` scans it."""

    seed: int
    body: Body
    findings: Findings
    lesions: Lesions
    scanner: Scanner

    @property
    def native_shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of the full-size scan."""
        return (NATIVE_PIXELS, NATIVE_PIXELS, self.scanner.slices)

    def rng(self, stream: int, index: int = 0) -> np.random.Generator:
        """The patient's random numbers for one purpose."""
        return np.random.default_rng((self.seed, stream, index))


def draw_patient(seed: int, *, lesion_share: float | None = None) -> Patient:
    """Draw a patient and a scanner.

    Args:
        seed: not negative; the same seed gives the same patient on every machine.
        lesion_share: lesion volume over lung volume in 0..1, where 0.0 is a normal patient. None
            draws normal or abnormal half and half, abnormal shares log-uniform in 0.01..0.60.

    Raises:
        ValueError: a negative seed, or a share outside 0..1.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if lesion_share is None:
        rng = np.random.default_rng((seed, STREAM_LABEL))
        abnormal = bool(rng.random() < 0.5)
        drawn = math.exp(rng.uniform(math.log(SHARE_LOW), math.log(SHARE_HIGH)))
        lesion_share = drawn if abnormal else 0.0
    if not 0.0 <= lesion_share <= 1.0:
        raise ValueError(f"lesion_share must lie in 0..1, got {lesion_share}")
    body = _draw_body(np.random.default_rng((seed, STREAM_ANATOMY)))
    return Patient(
        seed=seed,
        body=body,
        findings=_draw_findings(np.random.default_rng((seed, STREAM_FINDINGS)), body),
        lesions=_draw_lesions(np.random.default_rng((seed, STREAM_LESIONS)), lesion_share),
        scanner=_draw_scanner(np.random.default_rng((seed, STREAM_SCANNER)), body),
    )


def _draw_body(rng: np.random.Generator) -> Body:
    size = rng.normal(1.0, 0.07)
    small_lungs = rng.random() < 0.2
    half_width = float(np.clip(128 * size + rng.normal(0, 5), 104, 152))
    height = float(np.clip(235 * size + rng.normal(0, 18), 185, 290))
    height *= rng.uniform(0.72, 0.85) if small_lungs else 1.0
    dome = height * rng.uniform(0.22, 0.34) * (1.2 if small_lungs else 1.0)
    return Body(
        chest_half_width_mm=half_width,
        chest_half_depth_mm=half_width * rng.uniform(0.66, 0.80),
        lung_height_mm=height,
        roundness=rng.uniform(2.1, 2.6),
        fat_mm=float(np.clip(rng.lognormal(2.6, 0.5), 5, 38)),
        muscle_mm=rng.uniform(9, 20),
        breast_mm=rng.uniform(8, 30) if rng.random() < 0.45 else 0.0,
        dome_right_mm=dome,
        dome_left_mm=dome * rng.uniform(0.75, 0.98),
        heart_mm=half_width * rng.uniform(0.36, 0.47),
        heart_left_mm=half_width * rng.uniform(0.10, 0.24),
        mediastinum_mm=rng.uniform(26, 36),
        aorta_mm=rng.uniform(10.5, 16),
        trachea_mm=rng.uniform(7, 10),
        kyphosis_mm=rng.uniform(-4, 14),
        rib_pitch_mm=height / rng.uniform(8.6, 10.0),
        rib_drop_mm=rng.uniform(100, 145),
        bone_density=rng.uniform(0.65, 1.25),
    )


def _draw_findings(rng: np.random.Generator, body: Body) -> Findings:
    motion = rng.random() < 0.3
    centre = body.lung_height_mm * rng.uniform(0.1, 0.6)
    half = rng.uniform(15, 50)
    return Findings(
        lung_hu=float(np.clip(rng.normal(-815, 45), -900, -690)),
        gravity_hu=rng.uniform(20, 120),
        texture_hu=rng.uniform(12, 32),
        mosaic_hu=rng.uniform(30, 75) if rng.random() < 0.25 else 0.0,
        emphysema_hu=rng.uniform(60, 130) if rng.random() < 0.2 else 0.0,
        atelectasis_hu=rng.uniform(100, 330) if rng.random() < 0.6 else 0.0,
        atelectasis_mm=4 + 11 * float(rng.random()) ** 2,
        apical_cap_mm=rng.uniform(2, 6) if rng.random() < 0.3 else 0.0,
        scars=int(rng.integers(1, 6)) if rng.random() < 0.45 else 0,
        granulomas=int(rng.integers(1, 3)) if rng.random() < 0.25 else 0,
        vessel_mm=rng.uniform(0.7, 0.95),
        vessel_targets=int(rng.integers(130, 190)),
        motion_mm=rng.uniform(1.5, 5.0) if motion else 0.0,
        motion_z_mm=(centre - half, centre + half),
    )


def _draw_lesions(rng: np.random.Generator, share: float) -> Lesions:
    few = rng.random() < 0.4
    count = rng.uniform(1, 4) if few else rng.uniform(3, 9)
    return Lesions(
        share=share,
        blobs=int(count * (0.5 + 6 * share**0.7)) + 1,
        spread=rng.uniform(0.2, 0.55),
        peripheral=rng.uniform(0.0, 1.0),
        posterior=rng.uniform(0.0, 1.6),
        lower=rng.uniform(-0.3, 1.6),
        raggedness=rng.uniform(0.12, 0.38),
        ground_glass_hu=rng.uniform(230, 440),
        paving=rng.uniform(0.0, 0.2),
        consolidated=rng.uniform(0.1, 0.75) if rng.random() < 0.6 else 0.0,
    )


def _draw_scanner(rng: np.random.Generator, body: Body) -> Scanner:
    outer = body.chest_half_width_mm + body.muscle_mm + body.fat_mm + 14
    fov = float(np.clip(2 * outer * rng.uniform(0.98, 1.18), 300, 480))
    spacing = float(rng.choice([1.5, 2.0, 2.5, 3.0, 5.0, 6.0, 7.0, 8.0], p=_SPACING_ODDS))
    thickness = spacing * rng.uniform(1.0, 1.25)
    z_low = -rng.uniform(10, 45)
    z_high = body.lung_height_mm + rng.uniform(6, 26)
    sharp = rng.random() < 0.4
    dose = rng.uniform(9, 24) * (3.0 / thickness) ** 0.25
    # Three taps of a symmetric, separable blur of white noise: centre, first, second neighbour.
    kernel = (1.0, -rng.uniform(0.05, 0.2), 0.0) if sharp else (1.0, rng.uniform(0.5, 0.8), 0.25)
    return Scanner(
        fov_mm=fov,
        offset_mm=(float(rng.normal(0, 8)), float(rng.normal(0, 10))),
        tilt_rad=float(rng.normal(0, 0.035)),
        z_low_mm=z_low,
        spacing_mm=spacing,
        thickness_mm=thickness,
        slices=int((z_high - z_low) / spacing) + 1,
        noise_hu=float(np.clip(dose * (1.7 if sharp else 1.0), 8, 45)),
        kernel=kernel,
        edge_mm=rng.uniform(0.5, 0.8) if sharp else rng.uniform(1.0, 1.8),
        table_gap_mm=rng.uniform(0, 10),
        table_radius_mm=rng.uniform(380, 700),
        circular=bool(rng.random() < 0.4),
        origin_z_mm=float(np.round(rng.uniform(-900, 400), 1)),
    )


_SPACING_ODDS = [0.05, 0.06, 0.07, 0.10, 0.22, 0.10, 0.10, 0.30]
