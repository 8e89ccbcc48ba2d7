"""A report as one HTML file that needs nothing beside it: no script, no link, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from ctedge_training.judging import tables
from ctedge_training.judging.tables import text

HEADLINE = "Research software, not a medical device"

_CAPTIONS = {
    "roc": "ROC curve with its 95 % bootstrap band and the operating point",
    "reliability": "Reliability: observed share against predicted probability (Wilson intervals)",
    "histogram": "Predicted probabilities of each class",
    "scatter": "Predicted against true score; the class is right inside the shaded squares",
    "bland_altman": "Bland-Altman: error against the mean of both scores",
    "confusion": "Class table: scans and share of the true class",
}

# Forbids what the page does not hold anyway, should a name ever slip through unescaped.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 1080px;
  margin: 0 auto; padding: 1.5rem; }
.headline { background: #fff3cd; border-left: 6px solid #d55e00; padding: .6rem 1rem;
  font-weight: 600; }
h1 { margin: 1rem 0 .2rem; } h2 { margin: 2rem 0 .5rem; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; margin: 1rem 0 .3rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { border: 1px solid #ddd; padding: .25rem .6rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
thead th { background: #f2f2f2; } tbody th { font-weight: 500; }
td { font-variant-numeric: tabular-nums; }
table + p { color: #555; font-size: 90%; margin-top: 0; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start; }
figure { margin: 0; max-width: 100%; break-inside: avoid; }
figure img { max-width: 100%; width: 500px; height: auto; }
figcaption { color: #555; font-size: 90%; max-width: 500px; }
"""


def page_of(document: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """The whole page.

    Args:
        document: what `report_document` gives.
        figures: PNG by name, as `figures_of` gives; one of an unknown name is captioned by it.
    """
    title = f"ctedge: evaluation of a network for the task {document['task']}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{text(_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f'<p class="headline">{text(document["headline"])}</p>',
        f"<h1>{text(title)}</h1>",
        *_warnings(document),
        "<h2>What was judged</h2>",
        _origin(document),
        "<h2>How well it answers</h2>",
        tables.metric_table(document),
        *_task_tables(document),
        "<h2>Figures</h2>",
        '<div class="figures">',
        *(_figure(name, png) for name, png in figures.items()),
        "</div>",
        "<h2>Subgroups</h2>",
        tables.subgroup_table_of(document),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _warnings(document: Mapping[str, Any]) -> list[str]:
    found = []
    if _of(document["run"], "data", "synthetic") is True:
        found.append("This network was trained on synthetic scans only.")
    if set(document["data"]["splits"]) - {"test"}:
        found.append("Not only scans of the test split were judged: the figures may flatter.")
    return [f'<p class="headline">{text(warning)}</p>' for warning in found]


def _origin(document: Mapping[str, Any]) -> str:
    run, data = document["run"], document["data"]
    splits = ", ".join(f"{name} {count}" for name, count in data["splits"].items())
    further = {key: value for key, value in data.items() if key not in ("splits", "scans")}
    rows = [
        ["network", run.get("name")],
        ["SHA-256 of the network", run.get("model_sha256")],
        ["trained on: scans", _of(run, "data", "count")],
        ["trained on: digest", _of(run, "data", "digest")],
        ["preprocessing", _of(run, "spec", "name")],
        ["judged: scans", f"{data['scans']} ({splits})"],
        *([f"judged: {key}", value] for key, value in further.items()),
        ["command", document["command"] or None],
        *([f"version of {name}", version] for name, version in document["versions"].items()),
    ]
    return tables.table("Network and data", ["", ""], [row for row in rows if row[1] is not None])


def _task_tables(document: Mapping[str, Any]) -> list[str]:
    if "counts" not in document["metrics"]:
        return [tables.distance_table(document)]
    return [tables.count_table(document), tables.reliability_table(document)]


def _figure(name: str, png: bytes) -> str:
    caption = text(_CAPTIONS.get(name, name))
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _of(document: Mapping[str, Any], *keys: str) -> object:
    value: object = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
