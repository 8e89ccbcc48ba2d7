"""`ctedge train`: data, training and judging, one command each."""

from __future__ import annotations

import typer

from ctedge.cli.group import Group
from ctedge_training.cli import networks
from ctedge_training.cli.ablate import ablate
from ctedge_training.cli.data import data_app
from ctedge_training.cli.evaluate import evaluate
from ctedge_training.cli.legacy import import_checkpoint
from ctedge_training.cli.phantoms import phantoms
from ctedge_training.cli.prepare import prepare

app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Train the networks on scans with labels, and evaluate them.",
)

app.add_typer(data_app, name="data")
app.command(short_help="Preprocess all scans once, into a digested store.")(prepare)
app.command("classifier", help="Train the classifier: how probably a scan is abnormal.")(
    networks.command_of("classifier")
)
app.command("severity", help="Train the severity network: a score from 0 to 100.")(
    networks.command_of("severity")
)
app.command(short_help="Train DenseNet121 on single slices.")(networks.slices)
app.command(short_help="Judge a finished training on one split.")(evaluate)
app.command(short_help="Train the recipe with one part left out at a time.")(ablate)
app.command("import")(import_checkpoint)
app.command()(phantoms)
