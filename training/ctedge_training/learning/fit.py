"""The epochs: fit, validate, remember the best, write a checkpoint, stop early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import numpy.typing as npt

from ctedge.errors import InferenceFailed, counted
from ctedge_training import run
from ctedge_training.judging import metrics
from ctedge_training.learning.batches import Plan
from ctedge_training.learning.checkpoint import Progress, save_checkpoint
from ctedge_training.learning.feeding import Batches, Feeder
from ctedge_training.learning.job import Job, Part
from ctedge_training.learning.schedule import (
    epochs_without_improvement,
    learning_rate,
    rate_of_epoch,
)
from ctedge_training.learning.settings import Settings
from ctedge_training.learning.weights import recalibrate
from ctedge_training.tasks import Task

Values = npt.NDArray[np.float32]

#: A fresh output kernel is made this much smaller: at first the answer is the prior, not noise.
FIRST_OUTPUT = 0.1

#: BatchNorm statistics are taken over this many batches before each validation. With 16 of 4
#: phantoms the severity error moved by a point between epochs while the weights stood still.
RECALIBRATION_BATCHES = 64


def compile_network(network: keras.Model, task: Task, settings: Settings, steps: int) -> None:
    """Adam on its schedule; cross-entropy, or squared error of score / 100.

    Args:
        network: changed in place; its optimizer and its metrics are built.
        task: decides about the loss.
        settings: the learning rate, its schedule, and the averaging of the weights.
        steps: batches an epoch.
    """
    average = {"ema_momentum": settings.averaging} if settings.averaging else {}
    network.compile(
        optimizer=keras.optimizers.Adam(
            learning_rate(settings, steps), use_ema=bool(average), **average
        ),
        loss="binary_crossentropy" if task.binary else "mean_squared_error",
        metrics=["accuracy"] if _counts_accuracy(task, settings) else [],
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    network.optimizer.build(network.trainable_variables)
    _build_metrics(network)


def set_prior(network: keras.Model, task: Task, targets: Values) -> None:
    """Let an untrained output answer close to the mean of the training answers."""
    mean = float(np.clip(np.mean(targets), 0.01, 0.99))
    output = network.get_layer("output")
    kernel, _ = output.get_weights()
    bias = np.log(mean / (1.0 - mean)) if task.binary else mean
    output.set_weights([FIRST_OUTPUT * kernel, np.array([bias], dtype=np.float32)])


def run_epochs(network: keras.Model, job: Job, progress: Progress) -> None:
    """Train until all epochs are done or patience ends, from where `progress` stands.

    After each epoch the checkpoint and `history.csv` in the run folder are replaced.

    Raises:
        InferenceFailed: the loss is no number any more.
        OutputError: the folder cannot be written.
    """
    settings, training, validation = job.settings, job.training, job.validation
    with Feeder(job.feeders) as feeder:
        while progress.epoch < settings.epochs and not _exhausted(progress, settings):
            epoch = progress.epoch + 1
            started = time.monotonic()
            if settings.schedule == "plateau":
                network.optimizer.learning_rate = rate_of_epoch(settings, progress.history)
            batches = feeder.batches(training.epoch(settings, epoch))
            with job.reporter.bar(f"epoch {epoch}/{settings.epochs}", len(batches)) as advance:
                watch = _Watch(advance)
                fitted = network.fit(batches, epochs=1, shuffle=False, verbose=0, callbacks=[watch])
            if settings.settle:
                recalibrate(network, at_rest(training, settings, RECALIBRATION_BATCHES))
            said = predict(network, validation, settings.batch_size)
            row = {
                "epoch": epoch,
                "seconds": round(time.monotonic() - started, 2),
                "learning_rate": float(keras.ops.convert_to_numpy(network.optimizer.learning_rate)),
                **{name: float(values[0]) for name, values in fitted.history.items()},
                "val_loss": loss_of(job.task, validation.targets, said),
                **_validation(job.task, validation.targets, said),
            }
            _refuse_divergence(row)
            better = row["val_loss"] < progress.best_loss
            progress.history.append(row)
            if better:
                progress.best_epoch = epoch
                progress.best_weights = network.get_weights()
            if settings.averaging:
                network.set_weights(watch.weights)
            save_checkpoint(job.checkpoint, network, progress)
            run.write_history(job.folder / run.HISTORY_FILE, progress.history)
            job.reporter.say(_line(row, job.task, settings, better))
    if progress.epoch < settings.epochs:
        job.reporter.say(
            f"{counted(settings.patience, 'epoch')} without a better {_mark(settings)}: stopped"
        )


def predict(network: keras.Model, part: Part, batch_size: int) -> Values:
    """The network's answers for a part, (n,) float32."""
    batches = Batches(part.plan(batch_size))
    said: Values = np.asarray(network.predict(batches, verbose=0), dtype=np.float32)[:, 0]
    return said


def loss_of(task: Task, targets: Values, said: Values) -> float:
    """The training loss of some answers: cross-entropy, or squared error."""
    truth, answer = targets.astype(np.float64), said.astype(np.float64)
    if not task.binary:
        return float(np.mean((answer - truth) ** 2))
    return metrics.log_loss(truth, answer)


def at_rest(training: Part, settings: Settings, most: int | None = None) -> Iterator[Values]:
    """Batches of training volumes as they are, in one seeded order, for `recalibrate`.

    Args:
        training: the part that the network is trained on.
        settings: the seed and the batch size.
        most: at most this many batches; None gives every volume once.
    """
    plan: Plan = training.at_rest(settings)
    count = len(plan) if most is None else min(len(plan), most)
    return (plan.work(index).make()[0] for index in range(count))


def _build_metrics(network: keras.Model) -> None:
    """Make the variables that count the training's accuracy; Keras makes them in the first step.

    TensorFlow traces a step again where tracing it made variables: of DenseNet121 that takes ten
    seconds. The answers and the bits are the same.
    """
    answer = keras.ops.zeros((1, 1))
    network.compute_metrics(None, answer, answer)
    network.reset_metrics()


def _validation(task: Task, targets: Values, said: Values) -> dict[str, float]:
    """What the history tells of the validation beside its loss."""
    truth, answer = targets.astype(np.float64), said.astype(np.float64)
    if not np.isfinite(answer).all():
        return {task.metric: float("nan")}
    if task.binary:
        right = (answer >= metrics.THRESHOLD) == (truth == 1.0)
        return {"val_accuracy": float(np.mean(right)), "auc": metrics.auc(truth, answer)}
    truth, answer = truth * task.unit, np.clip(answer * task.unit, 0.0, 100.0)
    same = metrics.severity_class(truth) == metrics.severity_class(answer)
    return {"val_accuracy": float(np.mean(same)), "mae": metrics.mae(truth, answer)}


def _counts_accuracy(task: Task, settings: Settings) -> bool:
    """Whether the training answers are plain 0 and 1, so that right and wrong can be told."""
    return task.binary and settings.mixup == 0.0 and settings.label_smoothing == 0.0


def _exhausted(progress: Progress, settings: Settings) -> bool:
    return epochs_without_improvement(settings, progress.history) >= settings.patience


def _mark(settings: Settings) -> str:
    return f"validation {settings.stop_on}"


def _refuse_divergence(row: dict[str, float]) -> None:
    if not np.isfinite([row["loss"], row["val_loss"]]).all():
        raise InferenceFailed(
            "the training diverged: its loss is no finite number",
            found=f"epoch {row['epoch']:.0f}, loss {row['loss']}, validation {row['val_loss']}",
            fix="train again with a lower --learning-rate",
        )


def _line(row: dict[str, float], task: Task, settings: Settings, better: bool) -> str:
    digits = 3 if task.binary else 2
    return (
        f"epoch {row['epoch']:3.0f}/{settings.epochs}  loss {row['loss']:.4f}"
        f"  val_loss {row['val_loss']:.4f}  {task.metric} {row[task.metric]:.{digits}f}"
        f"  lr {row['learning_rate']:.1e}  {row['seconds']:.0f} s{'  best' if better else ''}"
    )


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Moves the bar, and keeps the weights as the optimizer left them.

    With averaging, `fit` ends by putting the averaged weights in their place.
    """

    def __init__(self, advance: Callable[[], None]) -> None:
        super().__init__()
        self._advance = advance
        self.weights: list[npt.NDArray[np.generic]] = []

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._advance()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        if self.model.optimizer.use_ema:
            self.weights = self.model.get_weights()
