"""The report: complete, self-contained, and deaf to what hostile names say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from ctedge.errors import DatasetError
from ctedge_training.judging.metrics import metrics_of
from ctedge_training.judging.report import report_document, write_evaluation, write_report
from ctedge_training.judging.rows import Judged, patients_of
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SEVERITY, Task

HOSTILE = '</table><script>alert(1)</script><img src=x onerror="a()">\'&'
VOID = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would see: tags with attributes, text, and whether all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "style" not in self.open:
            self.texts.append(data.strip())


def judged(task: Task, count: int = 40, *, site: str = "east", patient: str = "") -> list[Judged]:
    rng = np.random.default_rng(3)
    answers = rng.integers(0, 2, count) if task.binary else rng.uniform(0, 100, count)
    noise = rng.uniform(0, 0.6, count) if task.binary else rng.normal(0, 12, count)
    said = 0.4 * answers + noise if task.binary else answers + noise
    return [
        Judged(
            name=f"scans/{index}.nii.gz",
            patient=patient and f"{patient}{index // 2}",
            split="test",
            answer=float(answers[index]),
            predicted=float(said[index]),
            facts={
                "spacing_mm": (0.7, 0.7, 1.0 + index % 8),
                "shape": (512, 512, 60),
                "site": (site, "west")[index % 2],
            },
        )
        for index in range(count)
    ]


def trained(folder: Path, task: Task, **document: object) -> Run:
    return Run(
        folder=folder,
        task=task,
        spec=task.spec,
        document={
            "schema_version": 1,
            "labels": list(task.labels),
            "model_sha256": "ab" * 32,
            "data": {"digest": "cd" * 32, "count": 170, "synthetic": False},
            "spec": {"name": task.spec.name},
            "metrics": {"auc": "of another evaluation"},
            **document,
        },
        keras_bytes=b"",
    )


@pytest.mark.parametrize("task", [CLASSIFIER, SEVERITY], ids=lambda task: task.name)
def test_a_whole_report(tmp_path: Path, task: Task) -> None:
    rows = judged(task)
    path = write_evaluation(
        tmp_path / "report",
        trained(tmp_path / "run-7", task, threshold=0.37 if task.binary else None),
        rows,
        command=["ctedge", "train", "evaluate", "a folder"],
        data={"digest": "ef" * 32},
    )
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "predictions.csv",
        "report.html",
        "report.json",
    ]
    document = json.loads((path.parent / "report.json").read_text())
    assert document["schema_version"] == 1
    assert document["command"] == "ctedge train evaluate 'a folder'"
    assert document["run"]["name"] == "run-7"
    assert "metrics" not in document["run"]
    assert document["data"] == {
        "digest": "ef" * 32,
        "scans": 40,
        "patients": None,
        "splits": {"test": 40},
    }
    wanted = metrics_of(
        task, [row.answer for row in rows], [row.predicted for row in rows], threshold=0.37
    )
    assert document["metrics"] == json.loads(json.dumps(wanted))
    page = Page(path.read_text())
    for shown in ("run-7", "ab" * 32, "cd" * 32, "ef" * 32, document["command"]):
        assert shown in page.texts
    assert "Research software, not a medical device" in page.texts
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == (4 if task.binary else 3)
    assert all((image["src"] or "").startswith("data:image/png;base64,iVBOR") for image in images)
    assert all(image["alt"] for image in images)
    key = "auc" if task.binary else "mae"
    low, high = document["metrics"][key]["ci95"]
    assert f"{document['metrics'][key]['value']:.3f}" in page.texts
    assert f"[{low:.3f}, {high:.3f}]" in page.texts


def test_the_counts_stand_in_their_cells(tmp_path: Path) -> None:
    counts = {"true_negative": 1, "false_positive": 2, "false_negative": 3, "true_positive": 4}
    said = [0.1] + [0.9] * 2 + [0.1] * 3 + [0.9] * 4
    rows = [
        Judged(name="n", patient="", split="test", answer=float(place >= 3), predicted=one)
        for place, one in enumerate(said)
    ]
    document = report_document(CLASSIFIER, rows, run_document={})
    assert {key: document["metrics"]["counts"][key] for key in counts} == counts
    page = Page(write_report(tmp_path, document, {}).read_text())
    place = page.texts.index("truly normal")
    assert page.texts[place : place + 8] == [
        "truly normal",
        "1 (true negative, TN)",
        "2 (false positive, FP)",
        "3",
        "truly abnormal",
        "3 (false negative, FN)",
        "4 (true positive, TP)",
        "7",
    ]


def test_a_page_needs_nothing_beside_it_whatever_the_names(tmp_path: Path) -> None:
    run = trained(
        tmp_path / "r", CLASSIFIER, labels=[HOSTILE, "\u202eabnormal"], spec={"name": HOSTILE}
    )
    path = write_evaluation(
        tmp_path,
        run,
        judged(CLASSIFIER, site=HOSTILE, patient=HOSTILE),
        command=[HOSTILE],
        data={HOSTILE: HOSTILE, "lone": "\udc80\0"},
        published={"accuracy": HOSTILE, HOSTILE: "1"},
    )
    text = path.read_text()
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "p", "h1", "h2", "table", "caption"),
        *("thead", "tbody", "tr", "th", "td", "div", "figure", "img", "figcaption"),
    }
    for tag, attributes in page.tags:
        assert set(attributes) <= {
            *("lang", "charset", "http-equiv", "content", "name", "class", "scope", "alt", "src")
        }
        assert tag != "img" or (attributes["src"] or "").startswith("data:")
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert page.texts.count(HOSTILE) >= 3
    assert "\u202e" not in text
    assert "\\u202eabnormal" in " ".join(page.texts)
    assert "\\udc80\\x00" in page.texts


def test_published_figures_stand_beside_ours(tmp_path: Path) -> None:
    published = {"accuracy": "0.775 (PSG College, 40 studies)", "training accuracy": "0.788"}
    document = report_document(CLASSIFIER, judged(CLASSIFIER), run_document={}, published=published)
    texts = Page(write_report(tmp_path, document, {}).read_text()).texts
    place = texts.index("Accuracy")
    assert texts[place + 3] == "0.775 (PSG College, 40 studies)"
    assert texts[texts.index("training accuracy") + 1] == "0.788"
    bare = report_document(CLASSIFIER, judged(CLASSIFIER), run_document={})
    texts = Page(write_report(tmp_path, bare, {}).read_text()).texts
    assert "published elsewhere" not in texts


def test_published_class_distances(tmp_path: Path) -> None:
    document = report_document(
        SEVERITY, judged(SEVERITY), run_document={}, published={"off_by_2": "7.5 %"}
    )
    texts = Page(write_report(tmp_path, document, {}).read_text()).texts
    number, share = document["metrics"]["class_distance"]["off_by_2"]
    place = texts.index("2 classes off")
    assert texts[place + 1 : place + 4] == [str(number), f"{share:.1%}", "7.5 %"]


def test_the_page_says_what_flatters(tmp_path: Path) -> None:
    rows = judged(CLASSIFIER)
    document = report_document(CLASSIFIER, rows, run_document={"data": {"synthetic": True}})
    assert "synthetic scans only" in write_report(tmp_path, document, {}).read_text()
    document["data"]["splits"] = {"train": 40}
    assert "may flatter" in write_report(tmp_path, document, {}).read_text()
    plain = report_document(CLASSIFIER, rows, run_document={})
    text = write_report(tmp_path, plain, {}).read_text()
    assert "synthetic" not in text
    assert "flatter" not in text


def test_one_class_and_no_facts_make_a_report(tmp_path: Path) -> None:
    rows = [Judged(name="a", patient="p", split="test", answer=1.0, predicted=0.8)]
    path = write_evaluation(tmp_path, trained(tmp_path, CLASSIFIER), rows)
    texts = Page(path.read_text()).texts
    assert texts[texts.index("Area under the ROC curve (AUC)") + 1] == "not defined"
    assert "Nothing is known by which the scans could be grouped." in texts


def test_patients_are_counted_and_drawn() -> None:
    rows = judged(CLASSIFIER, patient="p")
    document = report_document(CLASSIFIER, rows, run_document={})
    assert document["data"]["patients"] == 20
    assert document["metrics"]["bootstrap"]["unit"] == "patient"
    assert len(set(patients_of(judged(CLASSIFIER)))) == 40


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    document = report_document(CLASSIFIER, judged(CLASSIFIER), run_document={"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        write_report(tmp_path, document, {})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatasetError):
        report_document(CLASSIFIER, [], run_document={})
