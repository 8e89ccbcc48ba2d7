"""The tables of a report as HTML; every text in them is escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

NOT_DEFINED = "not defined"

METRIC_NAMES = {
    "auc": "Area under the ROC curve (AUC)",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "balanced_accuracy": "Balanced accuracy",
    "misclassification_rate": "Misclassification rate",
    "loss": "Cross-entropy loss (nats)",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "mae": "Mean absolute error (score points)",
    "rmse": "Root mean squared error (score points)",
    "exact_class": "Share in the right class",
    "within_one_class": "Share within one class",
    "bias": "Bias: mean of predicted - true (score points)",
    "pearson_r": "Pearson correlation",
}

_DISTANCES = {
    "same": "same class",
    "off_by_1": "1 class off",
    "off_by_2": "2 classes off",
    "off_by_3": "3 classes off",
    "off_by_4": "4 classes off",
}


def text(value: object) -> str:
    """Escaped for HTML; what does not print (line ends, changes of direction) is spelt out."""
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(value)
    )
    return html.escape(shown)


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[object]], *, note: str = ""
) -> str:
    """A table whose first column heads its rows."""
    heads = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    below = f"<p>{text(note)}</p>\n" if note else ""
    return (
        f"<table>\n<caption>{text(caption)}</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table>\n{below}"
    )


def metric_table(document: Mapping[str, Any]) -> str:
    """Every metric with its interval; published figures beside them where there are any."""
    metrics, published = document["metrics"], document["published"]
    compared = {key: value for key, value in published.items() if key not in _DISTANCES}
    rows = [
        [name, *_value_and_interval(metrics[key]), published.get(key, "")]
        for key, name in METRIC_NAMES.items()
        if key in metrics
    ]
    rows += [[key, "", "", value] for key, value in compared.items() if key not in metrics]
    drawn = metrics["bootstrap"]
    return table(
        f"Metrics (n = {metrics['count']})",
        ["metric", "value", "95 % interval", *(["published elsewhere"] if published else [])],
        rows if published else [row[:-1] for row in rows],
        note=f"Intervals: percentiles of {drawn['resamples']} bootstrap resamples of "
        f"{drawn['units']} {drawn['unit']}s, seed {drawn['seed']}; "
        "by Wilson's score where a share is 0 or 1."
        + (" Published figures come from other scans." if published else ""),
    )


def count_table(document: Mapping[str, Any]) -> str:
    """True and false positives and negatives at the threshold."""
    counts, (normal, abnormal) = document["metrics"]["counts"], document["labels"]
    return table(
        f"Calls at a threshold of {document['threshold']:.4g}",
        ["", f"called {normal}", f"called {abnormal}", "all"],
        [
            [
                f"truly {normal}",
                f"{counts['true_negative']} (true negative, TN)",
                f"{counts['false_positive']} (false positive, FP)",
                counts["normal"],
            ],
            [
                f"truly {abnormal}",
                f"{counts['false_negative']} (false negative, FN)",
                f"{counts['true_positive']} (true positive, TP)",
                counts["abnormal"],
            ],
        ],
    )


def distance_table(document: Mapping[str, Any]) -> str:
    """How far the predicted class is from the true one."""
    published = {key: document["published"].get(key, "") for key in _DISTANCES}
    compared = any(published.values())
    return table(
        "Predicted class against true class",
        ["", "scans", "share", *(["published elsewhere"] if compared else [])],
        [
            [_DISTANCES[key], number, f"{share:.1%}", *([published[key]] if compared else [])]
            for key, (number, share) in document["metrics"]["class_distance"].items()
        ],
    )


def reliability_table(document: Mapping[str, Any]) -> str:
    """What was said against what came true."""
    return table(
        "Reliability",
        ["mean probability", f"share {document['labels'][1]}", "95 % interval", "scans"],
        [
            [_number(row["mean_probability"]), *_share(row), row["count"]]
            for row in document["reliability"]
        ],
    )


def subgroup_table_of(document: Mapping[str, Any]) -> str:
    """The main metrics of each subgroup."""
    rows = document["subgroups"]
    if not rows:
        return "<p>Nothing is known by which the scans could be grouped.</p>\n"
    names = list(rows[0]["metrics"])
    return table(
        "Subgroups",
        ["by", "group", "scans", *(METRIC_NAMES[name] for name in names)],
        [
            [
                row["by"],
                row["group"],
                f"{row['count']}{' (few)' if row['few'] else ''}",
                *(" ".join(_value_and_interval(row["metrics"][name])) for name in names),
            ]
            for row in rows
        ],
        note="few: fewer than 10 scans, from which little can be concluded. Columns of the label "
        "file with one value, or more than 8, are no groups.",
    )


def _share(row: Mapping[str, Any]) -> tuple[str, str]:
    low, high = row["ci95"]
    return _number(row["observed"]), f"[{_number(low)}, {_number(high)}]"


def _value_and_interval(metric: Mapping[str, Any] | None) -> tuple[str, str]:
    if metric is None:
        return NOT_DEFINED, ""
    if "ci95" not in metric:
        return _number(metric["value"]), ""
    low, high = metric["ci95"]
    return _number(metric["value"]), f"[{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.3f}"
