"""`ctedge train`: data, training and judging, one command each."""

from __future__ import annotations

import typer

from ctedge_training.cli import networks
from ctedge_training.cli.ablate import ablate
from ctedge_training.cli.data import data_app
from ctedge_training.cli.evaluate import evaluate
from ctedge_training.cli.legacy import import_checkpoint
from ctedge_training.cli.phantoms import phantoms
from ctedge_training.cli.prepare import prepare

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Train the networks on scans with labels, and evaluate them.",
)

app.add_typer(data_app, name="data")
app.command()(prepare)
app.command("classifier", help="Train the classifier: how probably a scan is abnormal.")(
    networks.command_of("classifier")
)
app.command("severity", help="Train the severity network: a score from 0 to 100.")(
    networks.command_of("severity")
)
app.command()(networks.slices)
app.command()(evaluate)
app.command()(ablate)
app.command("import")(import_checkpoint)
app.command()(phantoms)
