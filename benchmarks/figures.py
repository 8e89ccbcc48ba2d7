"""The tables of figures of most pages, made from the result files.

python benchmarks/figures.py --write
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from page import fill, main
from result_file import doubts, machine_line, read

from ctedge import KERAS_EXAMPLE

#: How many times as long as reading a scan's bytes once preprocessing was to take at most.
WANTED_TIMES_MEMORY = 2


def speed_rows() -> Iterator[str]:
    """One line of Markdown per figure of `cpu.json`."""
    document = read("cpu")
    runs = {entry["name"]: entry for entry in document["benchmarks"]}

    def median(name: str) -> float:
        return float(runs[name]["stats"]["median"])

    def extra(name: str) -> dict[str, Any]:
        facts: dict[str, Any] = runs[name]["extra_info"]
        return facts

    preprocess = extra("test_preprocess_keras_example")
    bare = extra("test_import_in_a_bare_environment")
    rich = extra("test_import_beside_scipy_tensorflow_and_pydicom")
    yield f"| {machine_line(document)} | median |"
    yield "| --- | --- |"
    yield (
        "| preprocess 512 x 512 x 300 int16 to 128 x 128 x 64, again and again by itself"
        f" | {median('test_preprocess_keras_example') * 1e3:.1f} ms,"
        f" {preprocess['times_faster']} times faster than the published scipy pipeline"
        f" ({preprocess['published_pipeline_s']:.1f} s),"
        f" {preprocess['added_memory_mib']:.0f} MiB added |"
    )
    yield (
        "| `ctedge predict` of a 512 x 512 x 41 .nii.gz, process start to answer"
        f" | {median('test_predict_from_start_to_answer'):.2f} s |"
    )
    yield (
        "| the same job as a plain Keras script"
        f" | {median('test_the_same_job_as_a_plain_keras_script'):.2f} s |"
    )
    yield f"| `ctedge --help` | {median('test_help[--help]') * 1e3:.0f} ms |"
    yield (
        "| importing every public name, beyond a bare interpreter"
        f" | {bare['beyond_a_bare_interpreter_ms']:.0f} ms alone,"
        f" {rich['beyond_a_bare_interpreter_ms']:.0f} ms beside scipy, TensorFlow and pydicom |"
    )
    render = median("test_render[(512, 512, 40)]")
    yield f"| render a synthetic patient, 512 x 512 x 40, one core | {render:.2f} s |"
    yield f"| SDK with its CPU runtime on disk | {bare['install_mb']:.0f} MB |"
    yield from _below(document)


def limit_rows() -> Iterator[str]:
    """One line of Markdown per way that a scan may arrive: how far from the limit (`cpu.json`)."""
    document = read("cpu")
    yield (
        f"| {machine_line(document)} | one thread | two threads | bytes once | times that |"
        " wanted | bytes once and arithmetic, each alone | making it a scan, once |"
    )
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for run in document["benchmarks"]:
        laid, _, spec = run["name"].partition("[")[2].rstrip("]").partition("-")
        limits = run["name"].startswith("test_preprocess_and_its_limits")
        if not limits or spec != KERAS_EXAMPLE.name:  # the other's are of the same kind
            continue
        facts, took_ms = run["extra_info"], run["stats"]["median"] * 1e3
        yield (
            f"| {laid} | {facts['one_thread_ms']:.1f} ms | {took_ms:.1f} ms"
            f" | {facts['memory_ms']:.1f} ms | {facts['times_memory']:.1f} | {WANTED_TIMES_MEMORY}"
            f" | {facts['memory_ms'] + facts['arithmetic_ms']:.1f} ms"
            f" | {facts['check_ms']:.1f} ms |"
        )
    yield from _below(document)


def _below(document: dict[str, Any]) -> Iterator[str]:
    """What speaks against a table's figures, where the table itself names the machine."""
    for doubt in doubts(document):
        yield from ("", doubt)


def model_rows() -> Iterator[str]:
    """One line of Markdown per figure of `demo-models.json`."""
    runs = read("demo-models")["runs"]
    classifier, severity = runs["classifier"]["metrics"], runs["severity"]["metrics"]
    yield "| model | figure |"
    yield "| --- | --- |"
    yield f"| `pneumonia`, {classifier['count']} patients | AUC {_interval(classifier['auc'], 3)} |"
    yield (
        f"| `severity`, {severity['count']} patients"
        f" | mean absolute error {_interval(severity['mae'], 1)} points,"
        f" exact class {_interval(severity['exact_class'], 2)},"
        f" within one class {_interval(severity['within_one_class'], 2)} |"
    )


def system_rows() -> Iterator[str]:
    """One line of Markdown per complete run of a published system."""
    yield "| run | input | epochs | judged on | result | published | wall time |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for system in ("keras-example", "hrct-study", "covid-slices"):
        document = read(system)
        for run in document["runs"]:
            for judged in run["judged"]:
                yield _run_row(system, document, run, judged)
        if "over_seeds" in document:
            seeds = document["over_seeds"]
            means = ", ".join(
                f"{name} {seeds[name]['mean']:.3f} ± {seeds[name]['deviation']:.3f}"
                for name in ("accuracy", "auc", "sensitivity", "specificity")
            )
            published = _published("slices", document["published"])
            name = f"{system}, {len(document['runs'])} seeds"
            yield f"| {name} | | | test | {means} | {published} | |"


def ablation_rows() -> Iterator[str]:
    """One line of Markdown per variant of `ablation.json`."""
    document = read("ablation")
    measures = document["measures"]
    names = " | ".join(_MEASURE_NAMES[measure] for measure in measures)
    yield f"| trained with | {names} | AUC against all parts |"
    yield "| --- |" + " --- |" * (len(measures) + 1)
    for row in document["table"]:
        cells = [f"{row[name]['mean']:.3f} ± {row[name]['deviation']:.3f}" for name in measures]
        gap = row[measures[0]]
        difference = f"{gap['against_the_whole']:+.3f} ± {gap['standard_error']:.3f}"
        if row is document["table"][0]:
            difference = ""
        yield f"| {row['variant']} | " + " | ".join([*cells, difference]) + " |"


_MEASURE_NAMES = {"auc": "AUC", "loss": "cross-entropy", "ece": "calibration error"}


def scan_rows() -> Iterator[str]:
    """One line of Markdown per source of `real-scans.json`."""
    document = read("real-scans")
    yield "| source | answer | |"
    yield "| --- | --- | --- |"
    for row in document["rows"]:
        source = f"`{row['source']}`" + (f", `{row['said']}`" if row["said"] else "")
        said = ": ".join(part for part in (row["what"], row["found"].split(";")[0]) if part)
        yield f"| {source} | {row['answer']} | {said[:_CELL].replace('|', ' ')} |"


#: Characters of a table's longest cell.
_CELL = 160


def lung_rows() -> Iterator[str]:
    """One line of Markdown per involvement of `lungs.json`."""
    document = read("lungs")
    yield "| of the lungs affected | Dice, mean | lowest | below 0.97 |"
    yield "| --- | --- | --- | --- |"
    first, last = document["seeds"]
    for row in document["rows"]:
        below = f"{row['below_0.97']} of {last - first + 1}"
        dice = f"{row['dice_mean']:.3f} | {row['dice_least']:.3f}"
        share = row["involvement"]
        named = "as the generator draws them" if share is None else f"{share:.0%}"
        yield f"| {named} | {dice} | {below} |"


def explanation_rows() -> Iterator[str]:
    """One line of Markdown per way to a map of `explanation.json`."""
    document = read("explanation")
    yield f"{machine_line(document, ('onnxruntime', 'numpy'))}."
    yield from doubts(document)
    yield ""
    yield "| map | cells | phantoms | times chance | within the lungs | cost, in answers |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, row in document["rows"].items():
        spans = [
            f"{row[key]['median']:.1f} ({row[key]['p25']:.1f} to {row[key]['p75']:.1f})"
            for key in ("times_chance", "times_chance_within_lungs")
        ]
        cells = " x ".join(map(str, row["cells"]))
        cost = f"{row['cost_in_answers']:.1f}"
        yield f"| {name} | {cells} | {row['phantoms']} | {spans[0]} | {spans[1]} | {cost} |"


def quality_rows() -> Iterator[str]:
    """One line of Markdown per scan, or group of scans, of `quality.json`."""
    document = read("quality")
    yield (
        "| scan | lungs, mL | air; soft tissue, HU | noise, HU; cycles/mm | red in `predict`"
        " | red in `assess` | notes |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in document["rows"]:
        spans = {key: _span(value) for key, value in row.items() if isinstance(value, list)}
        cells = [
            row["scan"],
            spans.get("lungs_ml", ""),
            "; ".join(spans.get(key, "-") for key in ("air_hu", "tissue_hu")),
            "; ".join(spans.get(key, "-") for key in ("noise_hu", "cycles_per_mm")),
            *(_codes(row[key], row["count"]) for key in ("predict_red", "assess_red")),
            _codes(row["predict_notes"] | row["assess_notes"], row["count"]),
        ]
        yield "| " + " | ".join(cells) + " |"


def _span(ends: list[float]) -> str:
    low, high = (f"{end:g}" for end in ends)
    return low if low == high else f"{low} to {high}"


def _codes(counts: dict[str, int], of: int) -> str:
    """Codes of flags; of several scans, how many have each."""
    return ", ".join(
        f"`{code}`" if count == of else f"`{code}` in {count}" for code, count in counts.items()
    )


def _run_row(
    system: str, document: dict[str, Any], run: dict[str, Any], judged: dict[str, Any]
) -> str:
    training, metrics = run["training"], judged["metrics"]
    size = " x ".join(map(str, run["grid"][: 2 if run["task"] == "slices" else 3]))
    stop = "stopped early" if training["stopped_early"] else "all"
    cells = [
        f"{system}: {run['name']}",
        size + (", reduced" if document["reduced_size"] else ""),
        f"{training['epochs_run']} of {training['epochs']} ({stop}), best {training['best_epoch']}",
        f"{judged['split']}, {metrics['count']}",
        _result(metrics),
        _published(run["task"], document["published"]),
        f"{training['wall_seconds'] / 60:.0f} min",
    ]
    return "| " + " | ".join(cells) + " |"


def _result(metrics: dict[str, Any]) -> str:
    if "mae" in metrics:
        same, one = metrics["exact_class"], metrics["within_one_class"]
        return (
            f"mean absolute error {_interval(metrics['mae'], 1)} points,"
            f" exact class {_interval(same, 2)}, within one {_interval(one, 2)}"
        )
    return f"accuracy {_interval(metrics['accuracy'], 2)}, AUC {_interval(metrics['auc'], 3)}"


def _published(task: str, figures: dict[str, str]) -> str:
    keys = ("exact_class", "within_one_class") if task == "severity" else ("accuracy", "auc")
    return "; ".join(f"{key.replace('_', ' ')} {figures[key]}" for key in keys if key in figures)


def _interval(metric: dict[str, Any], digits: int) -> str:
    low, high = metric["ci95"]
    return f"{metric['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


Places = Mapping[str, Callable[[], Iterator[str]]]

#: What stands where.
PLACES: Mapping[str, Places] = {
    "README.md": {"cpu": speed_rows, "demo-models": model_rows},
    "training/README.md": {"systems": system_rows, "ablation": ablation_rows},
    "docs/reading-dicom.md": {"real-scans": scan_rows},
    "docs/lungs.md": {"lungs": lung_rows},
    "docs/explanation.md": {"explanation": explanation_rows},
    "docs/speed.md": {"cpu: limits": limit_rows},
    "docs/quality.md": {"quality": quality_rows},
}


def page(places: Places, text: str) -> str:
    """A page with its tables between their marks."""
    for mark, rows in places.items():
        text = fill(text, mark, rows())
    return text


PAGES = {name: partial(page, places) for name, places in PLACES.items()}

if __name__ == "__main__":
    main(PAGES)
