"""From measures to flags: one short function for each kind of measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctedge.errors import counted
from ctedge.quality import limits
from ctedge.quality.flag import Flag
from ctedge.quality.quality import ImageMeasures, LungsSeen, Quality, Sight
from ctedge.quality.trained import TrainedOn
from ctedge.scan import CTScan

Field = tuple[float, float, float] | None


def _note(code: str, message: str, value: float | None = None, limit: float | None = None) -> Flag:
    return Flag(code=code, severity="note", message=message, value=value, limit=limit)


def _red(code: str, message: str, value: float | None = None, limit: float | None = None) -> Flag:
    return Flag(code=code, severity="red", message=message, value=value, limit=limit)


def with_flags(quality: Quality, scan: CTScan, trained: TrainedOn | None) -> Quality:
    """A quality with all its flags; what the scan itself shows goes before what the input shows.

    Args:
        quality: its measures; an image without lungs means that there are none.
        scan: the scan, for what its header says.
        trained: what the model has learnt from, if the scan is to be held against that.
    """
    sight, lungs, image, field_mm = quality.sight, quality.lungs, quality.image, quality.field_mm
    found = [*of_header(scan, field_mm)]
    if trained is not None:
        found += of_range(scan, field_mm, trained)
    if image is not None:
        found += of_peaks(image)
    elif sight is not None:
        found += of_peaks(sight)
    if sight is not None:
        found += of_side(sight)
    if image is not None or lungs is not None:
        found += of_lungs(lungs)
    elif sight is not None:
        found += of_sight(sight)
    if sight is not None and not any(flag.code == "no-lungs" for flag in found):
        found += of_height(sight)
    if image is not None:
        found += of_image(image, scan, field_mm)
    return replace(quality, flags=tuple(found))


def of_header(scan: CTScan, field_mm: Field) -> Iterator[Flag]:
    """What the scan says of itself."""
    if scan.orientation_assumed:
        yield _note(
            "orientation-assumed", "orientation not stated; taken as Left, Anterior, Superior"
        )
    if field_mm is None:
        yield _note("size-unknown", "voxel size not stated; nothing is measured in mm or mL")
    columns, rows = scan.shape[:2]
    aspect = max(columns, rows) / min(columns, rows)
    if aspect > limits.MAX_ASPECT:
        message = f"slices of {columns} x {rows} pixels; is the array in (X, Y, Z) order?"
        yield _note("array-order", message, aspect, limits.MAX_ASPECT)
    if scan.excluded:
        message = f"{counted(len(scan.excluded), 'file')} left out of the volume"
        yield _note("files-excluded", message, float(len(scan.excluded)))
    if scan.interpolated:
        message = f"{counted(scan.interpolated, 'slice')} in no file: made of the neighbours"
        yield _note("slices-interpolated", message, float(scan.interpolated))


def of_range(scan: CTScan, field_mm: Field, trained: TrainedOn) -> Iterator[Flag]:
    """Geometry against that of the training."""
    spacing = scan.spacing_mm[2]
    far = limits.FAR_APART * trained.spacing_mm[1]
    if field_mm is not None and spacing > far:
        message = f"slices {spacing:g} mm apart; over {far:g} mm lesions fall between them"
        yield _red("slices-far-apart", message, spacing, far)
    slices = scan.shape[2]
    measured = [("slices-untrained", counted(slices, "slice"), float(slices), trained.slices)]
    if field_mm is not None:
        width = field_mm[0]
        measured += [
            ("spacing-untrained", f"slices {spacing:g} mm apart", spacing, trained.spacing_mm),
            ("field-untrained", f"a field {width:.0f} mm wide", width, trained.field_mm),
        ]
    for code, said, value, (low, high) in measured:
        if not low * 0.99 <= value <= high * 1.01:
            ends = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            message = f"{said}; {trained.source} had {ends}"
            yield _note(code, message, value, low if value < low else high)


def of_peaks(seen: Sight | ImageMeasures) -> Iterator[Flag]:
    """Whether air and soft tissue lie where HU says they are."""
    if seen.air_peak_hu is not None:
        off = abs(seen.air_peak_hu - limits.AIR_HU)
        if off > limits.AIR_NOTE_HU:
            make = _red if off >= limits.AIR_RED_HU else _note
            message = f"air lies at {seen.air_peak_hu:.0f} HU, not at -1000"
            yield make("air-off", message, seen.air_peak_hu, limits.AIR_HU)
    peak, (low, high) = seen.tissue_peak_hu, limits.TISSUE_HU
    if peak is None:
        yield _red("no-tissue", "no soft tissue inside the body: no chest, or no HU")
    elif not low <= peak <= high:
        limit = low if peak < low else high
        make = _red if abs(peak - limit) > limits.TISSUE_RED_HU else _note
        message = f"most soft tissue lies at {peak:.0f} HU, not at {low:.0f} to {high:.0f}"
        yield make("tissue-off", message, peak, limit)


def of_side(sight: Sight) -> Iterator[Flag]:
    """Whether the field is wide enough for the body."""
    contact = sight.side_contact
    if contact > limits.SIDE_NOTE:
        red = contact > limits.SIDE_RED
        limit = limits.SIDE_RED if red else limits.SIDE_NOTE
        message = f"body cut at a side: {contact:.0%} of its depth reach it (over {limit:.0%})"
        yield (_red if red else _note)("body-cut-side", message, contact, limit)


def of_height(sight: Sight) -> Iterator[Flag]:
    """Whether the scan shows the chest, and not much besides."""
    share, least = sight.height_share, limits.LEAST_HEIGHT
    if share < least:
        message = f"only {share:.0%} of the slices show lung (under {least:.0%})"
        yield _note("lungs-short", message, share, least)


def of_sight(sight: Sight) -> Iterator[Flag]:
    """Lungs, as far as the network's input alone shows them."""
    volume, share = sight.aerated_ml, sight.aerated_share
    if volume is not None and volume < limits.LEAST_LUNGS_ML:
        yield _no_lungs(f"{volume:.0f} mL of tissue with air", volume)
    elif share < limits.LEAST_AERATED:
        message = f"no lungs: {share:.1%} of the body hold air (under {limits.LEAST_AERATED:.0%})"
        yield _red("no-lungs", message, share, limits.LEAST_AERATED)
    else:
        yield from _cut(sight, limits.CUT_NOTE_SIGHT)


def of_lungs(lungs: LungsSeen | None) -> Iterator[Flag]:
    """Lungs as segmentation found them."""
    if lungs is None:
        yield _red("no-lungs", "no lungs can be found")
        return
    volume = None if lungs.volume_ml is None else lungs.volume_ml.both
    if volume is not None and volume < limits.LEAST_LUNGS_ML:
        yield _no_lungs(f"{volume:.0f} mL of lung", volume)
        return
    if not lungs.complete:
        yield _red("lung-missing", "only one lung is seen; the other is cut off, gone or all dense")
    yield from _cut(lungs, limits.CUT_NOTE)
    if volume is not None and volume < limits.SMALL_LUNGS_ML:
        message = f"lungs of {volume:.0f} mL: breathed out, or diseased"
        yield _note("lungs-small", message, volume, limits.SMALL_LUNGS_ML)
    if volume is not None and volume > limits.LARGE_LUNGS_ML:
        message = f"lungs of {volume:.0f} mL, more than anyone holds"
        yield _note("lungs-large", message, volume, limits.LARGE_LUNGS_ML)


def of_image(image: ImageMeasures, scan: CTScan, field_mm: Field) -> Iterator[Flag]:
    """Noise, kernel, metal, contrast medium, and what fills the lungs.

    The kernel that the header names is held against nothing, for every maker has names of its own;
    it is said where it may explain a flag.
    """
    named = "" if scan.kernel is None else f"; reconstructed with {scan.kernel}"
    noise, frequency = image.noise_hu, image.noise_frequency
    if noise is not None and noise > limits.NOISE_HU:
        message = f"noise of {noise:.0f} HU hides faint ground glass (over {limits.NOISE_HU:.0f})"
        yield _note("noise", message + named, noise, limits.NOISE_HU)
    if noise is not None and noise < limits.NO_NOISE_HU:
        message = f"noise of {noise:.1f} HU: smoothed, or no scan"
        yield _note("smooth", message + named, noise, limits.NO_NOISE_HU)
    elif image.noise_frequency_per_mm is not None and field_mm is not None:
        fewest = min(limits.NETWORK_COLUMNS / 2, limits.SMOOTH_FREQUENCY * scan.shape[0])
        slowest = fewest / field_mm[0]
        if image.noise_frequency_per_mm < slowest:
            found = image.noise_frequency_per_mm
            message = f"noise of {found:.2f} cycles/mm (under {slowest:.2f}): too smooth a kernel"
            yield _note("smooth", message + named, found, slowest)
    if frequency is not None and frequency > limits.SHARP_FREQUENCY:
        message = f"noise of {frequency:.2f} cycles/pixel: sharper than any kernel of the phantoms"
        yield _note("sharp", message + named, frequency, limits.SHARP_FREQUENCY)
    if image.metal_ml is not None and image.metal_ml > limits.METAL_ML:
        message = f"{image.metal_ml:.1f} mL above 3000 HU: metal, or undiluted contrast medium"
        yield _note("metal", message, image.metal_ml, limits.METAL_ML)
    if image.mediastinum_hu is not None and image.mediastinum_hu > limits.CONTRAST_HU:
        message = f"{image.mediastinum_hu:.0f} HU between the lungs: contrast medium"
        yield _note("contrast", message, image.mediastinum_hu, limits.CONTRAST_HU)
    if image.lung_hu is not None and image.lung_hu < limits.EMPTY_LUNGS_HU:
        message = f"lungs of {image.lung_hu:.0f} HU hold hardly a tissue: emphysema, or no patient"
        yield _note("lungs-empty", message, image.lung_hu, limits.EMPTY_LUNGS_HU)


def _no_lungs(found: str, volume: float) -> Flag:
    least = limits.LEAST_LUNGS_ML
    message = f"no lungs: {found} inside the body (under {least:.0f})"
    return _red("no-lungs", message, volume, least)


def _cut(seen: Sight | LungsSeen, least: float) -> Iterator[Flag]:
    for end, plane, share in (
        ("top", "highest", seen.top_share),
        ("bottom", "lowest", seen.bottom_share),
    ):
        if share > least:
            red = share > limits.CUT_RED
            limit = limits.CUT_RED if red else least
            message = (
                f"lungs cut at the {end}: the {plane} plane shows {share:.0%} of their largest"
                f" section (over {limit:.0%})"
            )
            yield (_red if red else _note)(f"lungs-cut-{end}", message, share, limit)
