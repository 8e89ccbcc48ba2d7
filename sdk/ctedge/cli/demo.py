"""`ctedge demo`: a synthetic patient through the whole job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Which synthetic patient.")] = 7,
    lesions: Annotated[
        float,
        typer.Option(min=0.0, max=100.0, help="Share of the lungs with lesions, in per cent."),
    ] = 30.0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the scan, the montage, the answers.")
    ] = Path("demo-output"),
) -> None:
    """Make a synthetic chest CT, judge it with the shipped models, draw a montage."""
    from rich.console import Console

    from ctedge.bundle.files import shipped_bundles
    from ctedge.cli.output import print_origin, print_result
    from ctedge.doors.by_task import load_door
    from ctedge.files import write_atomic
    from ctedge.montage import montage_png
    from ctedge.phantom import draw_patient, render, write_nifti
    from ctedge.prediction import severity_category, severity_ctsi

    console = Console(highlight=False, emoji=False)
    with console.status("rendering a synthetic patient"):
        phantom = render(draw_patient(seed, lesion_share=lesions / 100))
        scan = output / f"synthetic_{seed}.nii.gz"
        write_nifti(phantom, scan)
        montage = output / f"synthetic_{seed}_montage.png"
        montage_png(
            phantom.voxels,
            montage,
            mark_sides=True,
            caption=f"SYNTHETIC {seed} - LESIONS {phantom.score:.0f} %",
        )
    x, y, z = phantom.voxels.shape
    size = " x ".join(f"{mm:.2f}" for mm in phantom.spacing_mm)
    console.print(f"[bold]Synthetic patient {seed}[/bold]: {x} x {y} x {z} voxels of {size} mm")
    console.print(
        f"  truth: {phantom.label}, {phantom.score:.1f} of 100 = "
        f"{severity_category(phantom.score)}, CTSI {severity_ctsi(phantom.score)}\n"
    )
    results, bundles = [], []
    for name in shipped_bundles():
        with load_door(name) as door:
            door.warm_up()
            results.append(door.predict(scan).to_json())
            bundles.append(door.bundle)
        print_result(results[-1])
    truth = {"seed": seed, "label": phantom.label, "score": phantom.score}
    answers = output / f"synthetic_{seed}.json"
    write_atomic(
        answers,
        json.dumps({"schema_version": 1, "truth": truth, "results": results}, indent=2) + "\n",
    )
    for title, path in (("scan", scan), ("montage", montage), ("answers", answers)):
        console.print(f"  {title:8} {path}", soft_wrap=True, markup=False)
    console.print()
    print_origin(bundles)
