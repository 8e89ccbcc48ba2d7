"""The named trainings: three as they were published, and the SDK's own.

Sources:
    published   Zunair, "3D image classification from CT scans", Keras examples, 2020.
    writeup     the same, cut to 15 epochs, as a published course project ran it.
    hrct        Kavin Raj et al., "GPU enabled CNN based COVID-19 HRCT images classifier", PSG
                College of Technology, 2020. Its training code is not printed; batch (85 steps for
                170 studies), 100 epochs and patience are read off its logs: the classifier
                stopped at epoch 18, 15 after its best accuracy.
    slices      the DenseNet121 slice classifier: Adam 5e-5, reduced on a plateau of the validation
                accuracy, 20 epochs. Its batch size is not stated. Changed: BatchNorm statistics are
                settled before validation, because the moving averages lag behind in short epochs
                (33 steps: validation AUC 0.36 after 7 epochs at a training loss of 0.24).
    every-part  ours, with every part that we know switched on; `ctedge train ablate` holds each of
                them against the rest.
    ctedge      what we ship: every-part without mixup, which costs the classifier 0.03 to 0.04 of
                AUC at the size of the ablation (`benchmarks/results/ablation.json`).
    finish      the last epochs of a severity network that "ctedge" began: BatchNorm keeps its
                statistics, and volumes are mirrored and not changed otherwise. Four such epochs
                brought the demo network from 6.1 to 4.0 points of mean absolute error on its
                validation split, where further epochs of "ctedge" had brought nothing.
"""

from __future__ import annotations

from dataclasses import replace

from ctedge.errors import DatasetError
from ctedge.spec import Spec
from ctedge_training.learning.augment import Augmentation, PublishedRotation, plane_of
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import (
    CLASSIFIER,
    SEVERITY,
    SEVERITY_STUDY_LUNGS,
    SLICES,
    Task,
)

PUBLISHED = Settings(
    epochs=100,
    batch_size=2,
    learning_rate=1e-4,
    schedule="staircase",
    stop_on="accuracy",
    patience=15,
    augmentation=PublishedRotation(plane=(0, 1)),
    prior=False,
    settle=False,
)

WRITEUP = replace(PUBLISHED, epochs=15)

HRCT = replace(PUBLISHED, augmentation=None, spec=SEVERITY_STUDY_LUNGS.name)

DENSENET = Settings(
    epochs=20,
    batch_size=16,
    learning_rate=5e-5,
    schedule="plateau",
    patience=20,
    prior=False,
)

EVERY_PART = Settings(
    epochs=30,
    batch_size=4,
    learning_rate=5e-4,
    augmentation=Augmentation(),
    mixup=0.2,
    label_smoothing=0.05,
    averaging=0.99,
    balanced=True,
    calibrate=True,
    sensitivity=0.95,
)

CTEDGE = replace(EVERY_PART, mixup=0.0)

FINISH = replace(
    CTEDGE,
    epochs=4,
    learning_rate=2e-4,
    augmentation=Augmentation(
        window_hu=0.0, scale=0.0, shift=0.0, rotate_degrees=0.0, noise=0.0, flip=True
    ),
    label_smoothing=0.0,
    settle=False,
    keep_statistics=True,
)

#: What the authors report, by task and preset; shown beside our own figures.
PUBLISHED_FIGURES = {
    (CLASSIFIER.name, "published"): {
        "accuracy": "0.83 on the full MosMedData, varying by 6-7 % (its author)",
    },
    (CLASSIFIER.name, "hrct"): {"accuracy": "0.775 on 40 studies (PSG College)"},
    (SEVERITY.name, "hrct"): {
        "exact_class": "0.575 on 40 studies (PSG College)",
        "within_one_class": "0.90 on 40 studies (PSG College)",
        "same": "57.5 %",
        "off_by_1": "32.5 %",
        "off_by_2": "7.5 %",
        "off_by_3": "2.5 %",
        "off_by_4": "0 %",
    },
    (SLICES.name, "published"): {
        "accuracy": "0.92 on 755 slices of COVID-CT-MD",
        "auc": "0.90 on the same slices",
        "misclassification_rate": "0.07 on the same slices",
        "loss": "0.19 on the same slices",
    },
}

_BY_TASK = {
    CLASSIFIER.name: {
        "ctedge": CTEDGE,
        "every-part": EVERY_PART,
        "published": PUBLISHED,
        "writeup": WRITEUP,
        "hrct": HRCT,
    },
    SEVERITY.name: {
        "ctedge": replace(CTEDGE, label_smoothing=0.0),
        "every-part": replace(EVERY_PART, mixup=0.0, label_smoothing=0.0),
        "finish": FINISH,
        "hrct": replace(HRCT, stop_on="loss"),
    },
    SLICES.name: {"published": DENSENET},
}


def names(task: Task) -> tuple[str, ...]:
    """The presets of a task, the default one first."""
    return tuple(_BY_TASK[task.name])


def preset(name: str, task: Task) -> Settings:
    """The settings of a named training.

    Raises:
        DatasetError: the task has no such preset.
    """
    known = _BY_TASK[task.name]
    if name not in known:
        raise DatasetError(
            f"there is no preset {name!r} for {task.name}",
            expected=" or ".join(known),
            fix="name one of these with --preset",
        )
    return turned_to(replace(known[name], preset=name), task.spec)


def turned_to(settings: Settings, spec: Spec) -> Settings:
    """The same training, its augmentation turned to the axes of what it is fed with."""
    change = settings.augmentation
    if isinstance(change, Augmentation):
        return replace(settings, augmentation=replace(change, axes=spec.axes))
    if isinstance(change, PublishedRotation):
        return replace(settings, augmentation=replace(change, plane=plane_of(spec.axes)))
    return settings
