"""The epochs: fit, validate, remember the best, write a checkpoint, stop early."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import numpy.typing as npt

from ctedge.errors import InferenceFailed
from ctedge_training import metrics, run
from ctedge_training.batches import Augmentation, VolumeBatches
from ctedge_training.checkpoint import Progress, save_checkpoint
from ctedge_training.job import Job, Part
from ctedge_training.settings import Settings
from ctedge_training.tasks import CLASSIFIER, Task
from ctedge_training.weights import recalibrate

Values = npt.NDArray[np.float32]

#: Share of all steps over which the learning rate rises, and where it starts and ends.
WARM_UP_SHARE = 0.05
FIRST_RATE = 0.1
LAST_RATE = 0.01

#: A fresh output kernel is made this much smaller: at first the answer is the prior, not noise.
FIRST_OUTPUT = 0.1

#: BatchNorm statistics are taken over this many batches before each validation. With 16 of 4
#: phantoms the severity error moved by a point between epochs while the weights stood still.
RECALIBRATION_BATCHES = 64

#: Probabilities are kept this far from 0 and 1 in the logarithm, as Keras does.
_EPSILON = 1e-7


def compile_network(network: keras.Model, task: Task, settings: Settings, steps: int) -> None:
    """Adam with warm-up and cosine decay; cross-entropy, or squared error of score / 100.

    Args:
        network: changed in place; its optimizer is built.
        task: decides about the loss.
        settings: the peak learning rate and the number of epochs.
        steps: batches an epoch.
    """
    total = max(2, steps * settings.epochs)
    warm_up = max(1, round(WARM_UP_SHARE * total))
    rate = keras.optimizers.schedules.CosineDecay(
        FIRST_RATE * settings.learning_rate,
        decay_steps=total - warm_up,
        alpha=LAST_RATE,
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
    network.compile(
        optimizer=keras.optimizers.Adam(learning_rate=rate),
        loss="binary_crossentropy" if task is CLASSIFIER else "mean_squared_error",
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    network.optimizer.build(network.trainable_variables)


def set_prior(network: keras.Model, task: Task, targets: Values) -> None:
    """Let an untrained output answer close to the mean of the training answers."""
    mean = float(np.clip(np.mean(targets), 0.01, 0.99))
    output = network.get_layer("output")
    kernel, _ = output.get_weights()
    bias = np.log(mean / (1.0 - mean)) if task is CLASSIFIER else mean
    output.set_weights([FIRST_OUTPUT * kernel, np.array([bias], dtype=np.float32)])


def run_epochs(network: keras.Model, job: Job, progress: Progress) -> None:
    """Train until all epochs are done or patience ends, from where `progress` stands.

    After each epoch the checkpoint and `history.csv` in the run folder are replaced.

    Raises:
        InferenceFailed: the loss is no number any more.
        OutputError: the folder cannot be written.
    """
    settings, training, validation = job.settings, job.training, job.validation
    while progress.epoch < settings.epochs and not _exhausted(progress, settings):
        epoch = progress.epoch + 1
        started = time.monotonic()
        batches = VolumeBatches(
            training.volumes,
            training.targets,
            batch_size=settings.batch_size,
            shuffle_seed=(settings.seed, epoch),
            augmentation=Augmentation(),
        )
        with job.reporter.bar(f"epoch {epoch}/{settings.epochs}", len(batches)) as advance:
            fitted = network.fit(
                batches, epochs=1, shuffle=False, verbose=0, callbacks=[_Advance(advance)]
            )
        recalibrate(network, at_rest(training, settings, RECALIBRATION_BATCHES))
        said = predict(network, validation, settings.batch_size)
        row = {
            "epoch": epoch,
            "seconds": round(time.monotonic() - started, 2),
            "learning_rate": float(keras.ops.convert_to_numpy(network.optimizer.learning_rate)),
            "loss": float(fitted.history["loss"][0]),
            "val_loss": loss_of(job.task, validation.targets, said),
            job.task.metric: _metric(job.task, validation.targets, said),
        }
        _refuse_divergence(row)
        better = row["val_loss"] < progress.best_loss
        progress.history.append(row)
        if better:
            progress.best_epoch = epoch
            progress.best_weights = network.get_weights()
        save_checkpoint(job.checkpoint, network, progress)
        run.write_history(job.folder / run.HISTORY_FILE, progress.history)
        job.reporter.say(_line(row, job.task, settings, better))
    if progress.epoch < settings.epochs:
        job.reporter.say(f"{settings.patience} epochs without a better validation loss: stopped")


def predict(network: keras.Model, part: Part, batch_size: int) -> Values:
    """The network's answers for a part, (n,) float32."""
    batches = VolumeBatches(part.volumes, part.targets, batch_size=batch_size)
    said: Values = np.asarray(network.predict(batches, verbose=0), dtype=np.float32)[:, 0]
    return said


def loss_of(task: Task, targets: Values, said: Values) -> float:
    """The training loss of some answers: cross-entropy, or squared error."""
    truth, answer = targets.astype(np.float64), said.astype(np.float64)
    if task is not CLASSIFIER:
        return float(np.mean((answer - truth) ** 2))
    answer = np.clip(answer, _EPSILON, 1.0 - _EPSILON)
    return float(-np.mean(truth * np.log(answer) + (1.0 - truth) * np.log1p(-answer)))


def at_rest(training: Part, settings: Settings, most: int | None = None) -> Iterator[Values]:
    """Batches of training volumes as they are, in one seeded order, for `recalibrate`.

    Args:
        training: the part that the network is trained on.
        settings: the seed and the batch size.
        most: at most this many batches; None gives every volume once.
    """
    batches = VolumeBatches(
        training.volumes,
        training.targets,
        batch_size=settings.batch_size,
        shuffle_seed=(settings.seed, 0),
    )
    count = len(batches) if most is None else min(len(batches), most)
    return (batches[index][0] for index in range(count))


def _metric(task: Task, targets: Values, said: Values) -> float:
    if not np.isfinite(said).all():
        return float("nan")
    truth, answer = targets.astype(np.float64), said.astype(np.float64)
    if task is CLASSIFIER:
        return metrics.auc(truth, answer)
    return metrics.mae(truth * task.unit, np.clip(answer * task.unit, 0.0, 100.0))


def _exhausted(progress: Progress, settings: Settings) -> bool:
    return progress.epoch - progress.best_epoch >= settings.patience


def _refuse_divergence(row: dict[str, float]) -> None:
    if not np.isfinite([row["loss"], row["val_loss"]]).all():
        raise InferenceFailed(
            "the training diverged: its loss is no finite number",
            found=f"epoch {row['epoch']:.0f}, loss {row['loss']}, validation {row['val_loss']}",
            fix="train again with a lower --learning-rate",
        )


def _line(row: dict[str, float], task: Task, settings: Settings, better: bool) -> str:
    digits = 3 if task is CLASSIFIER else 2
    return (
        f"epoch {row['epoch']:3.0f}/{settings.epochs}  loss {row['loss']:.4f}"
        f"  val_loss {row['val_loss']:.4f}  {task.metric} {row[task.metric]:.{digits}f}"
        f"  lr {row['learning_rate']:.1e}  {row['seconds']:.0f} s{'  best' if better else ''}"
    )


class _Advance(keras.callbacks.Callback):  # type: ignore[misc]
    """Moves the bar."""

    def __init__(self, advance: Callable[[], None]) -> None:
        super().__init__()
        self._advance = advance

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._advance()
