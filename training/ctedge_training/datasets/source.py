"""Where scans and answers come from: one way in for every layout that a training can read.

index.json                    a prepared store (`ctedge train prepare`)
training.h5, validation.h5    the HRCT study's files, as ctedge writes them
--classes A,B                 one folder a class
labels.csv                    a label file, with splits
data.csv                      DICOM studies of the HRCT study
CT-0, CT-23                   the Keras example's folders

The first that is there is read. --classes and --labels go before what only lies there; an option
that the layout has no use for is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ctedge import pool
from ctedge.errors import DatasetError, OutputError
from ctedge.phantom.dataset import LABEL_FILE
from ctedge.progress import Reporter
from ctedge.spec import PreprocessSpec, Spec
from ctedge_training.datasets import class_folders, index, store
from ctedge_training.datasets.labels import Sample, check_trainable, read_labels
from ctedge_training.datasets.split import stratified
from ctedge_training.datasets.store import Each
from ctedge_training.datasets.volume import Volume
from ctedge_training.hrct import hdf5_splits
from ctedge_training.hrct import studies as hrct
from ctedge_training.hrct.masks import MaskFiles
from ctedge_training.learning.settings import Settings, spec_on_grid
from ctedge_training.tasks import SLICE_SPECS, SLICES, VOLUME_SPECS, Task

#: Shares of the splits where the layout has none: the Keras example's 70/30, and 70/15/15.
MOSMED_SHARES = {"train": 0.7, "validation": 0.3}
CLASS_SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Prepared inputs with their answers.

    Attributes:
        spec: the preprocessing they went through.
        volumes: all splits, in the order of their source.
        labels: names of the classes, in order.
    """

    spec: Spec
    volumes: list[Volume]
    labels: tuple[str, ...]

    def trainable(self, source: Path) -> Data:
        """The data itself, if a training can start from it.

        Raises:
            DatasetError: a split is empty, or holds nothing to tell apart.
        """
        check_trainable([volume.sample for volume in self.volumes], source)
        return self


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data folder and how to read it.

    Attributes:
        folder: the data folder, in one of the layouts above.
        labels: the label file; None means `labels.csv` in the folder.
        classes: names of two folders, the negative class first, instead of a label file.
        shares: of the splits, where the layout has none.
        split_seed: of such a split.
        masks: folder of lung masks; None means `masks` in the data folder.
        cache: folder of preprocessed volumes; None means `.ctedge-cache` in the data folder.
        skip_bad: leave out scans that cannot be read, and say which.
        allow_missing_reference: take DICOM studies without a reference number.
        workers: processes that preprocess.
        each: what distributes the work.
    """

    folder: Path
    labels: Path | None = None
    classes: tuple[str, str] | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    split_seed: int = 0
    masks: Path | None = None
    cache: Path | None = None
    skip_bad: bool = False
    allow_missing_reference: bool = False
    workers: int = 1
    each: Each = pool.each

    def open(self, task: Task, settings: Settings, reporter: Reporter) -> Data:
        """Read the answers and prepare the scans.

        Args:
            task: decides which answers are read.
            settings: its `spec` and `grid` say how the scans are preprocessed.
            reporter: shows progress.

        Raises:
            DatasetError: nothing lists the scans, what does is unsound or leaks, an option that
                the layout has no use for, or data that was prepared otherwise than `settings` ask.
            InputError: a scan cannot be read.
            OutputError: the cache cannot be written.
            MissingExtra: the package for this layout is absent.
        """
        if index.is_store(self.folder):
            self._refuse("a prepared store", "labels", "classes", "shares", "masks")
            found = index.read_index(self.folder, task)
            return _as_wanted(found.spec, found.volumes, found.labels, self.folder, settings)
        named = self.labels is not None or self.classes is not None
        if not named and hdf5_splits.are_there(self.folder):
            self._refuse("HDF5 files", "shares", "masks")
            with self._cache_nameable():
                its_spec, volumes = hdf5_splits.read_splits(self.folder, task, self._cache)
            return _as_wanted(its_spec, volumes, task.labels, self.folder, settings)
        spec = spec_of(task, settings)
        return self.prepared(self.samples(task, reporter), task, spec, reporter)

    def prepared(self, samples: list[Sample], task: Task, spec: Spec, reporter: Reporter) -> Data:
        """Some of the samples, preprocessed.

        Raises:
            DatasetError, InputError, OutputError: as `store.prepare` does; masks without a spec
                that wants them.
        """
        lungs_only = isinstance(spec, PreprocessSpec) and spec.lungs_only
        if not lungs_only:
            self._refuse(f"the preprocessing {spec.name}", "masks")
        masks = MaskFiles(folder=self.masks or self.folder / hrct.MASK_FOLDER)
        with self._cache_nameable():
            volumes = store.prepare(
                samples,
                spec,
                self._cache,
                masks=masks if lungs_only else None,
                skip_bad=self.skip_bad,
                workers=self.workers,
                each=self.each,
                reporter=reporter,
            )
        labels = task.labels if self.classes is None else self.classes
        return Data(spec=spec, volumes=volumes, labels=labels)

    def samples(self, task: Task, reporter: Reporter) -> list[Sample]:
        """The rows of whatever lists the scans of this folder.

        Raises:
            DatasetError: nothing lists them, what does is unsound, or an option that the layout
                has no use for.
        """
        if not self.folder.is_dir():
            raise DatasetError(
                "no label file",
                found=f"no folder {self.folder}",
                expected="a data folder",
                fix="check the path",
            )
        if self.classes is not None:
            self._refuse("class folders", "labels")
            if not task.binary:
                raise DatasetError(
                    f"class folders have no {task.column} for {task.name}",
                    found=f"--classes {','.join(self.classes)}",
                    expected=f"a label file with the column {task.column}",
                    fix=f"write {LABEL_FILE}, or train another task",
                )
            return self._class_folders(self.classes, CLASS_SHARES)
        if self.labels is not None or (self.folder / LABEL_FILE).is_file():
            self._refuse("a label file, which has its splits", "shares")
            return read_labels(self.folder, task, labels=self.labels)
        if (self.folder / hrct.TABLE_FILE).is_file():
            return self._studies(task, reporter)
        if task.binary and all((self.folder / n).is_dir() for n in class_folders.MOSMED_CLASSES):
            return self._class_folders(class_folders.MOSMED_CLASSES, MOSMED_SHARES)
        return read_labels(self.folder, task, labels=None)  # says what is missing

    def _refuse(self, layout: str, *names: str) -> None:
        """Refuse what the user said and this layout would ignore."""
        for name in names:
            if getattr(self, name):
                raise DatasetError(
                    f"{self.folder}: --{name} cannot be used here",
                    found=layout,
                    fix=f"leave out --{name}",
                )

    @property
    def _cache(self) -> Path:
        return self.folder / store.CACHE_FOLDER if self.cache is None else self.cache

    @contextlib.contextmanager
    def _cache_nameable(self) -> Iterator[None]:
        """Whoever named no cache hears how, where the data folder cannot hold one."""
        try:
            yield
        except OutputError as error:
            if self.cache is None:
                error.fix = "name a folder that can be written, with space, with --cache"
            raise

    def _class_folders(self, classes: tuple[str, str], shares: Mapping[str, float]) -> list[Sample]:
        return class_folders.read_class_folders(
            self.folder, classes, shares=self.shares or shares, seed=self.split_seed
        )

    def _studies(self, task: Task, reporter: Reporter) -> list[Sample]:
        studies = hrct.read_studies(
            self.folder,
            allow_missing_reference=self.allow_missing_reference,
            workers=self.workers,
            reporter=reporter,
        )
        splits = hrct.split_rows(studies, seed=self.split_seed)
        if self.shares:
            groups = {study.name: "covid" if study.covid else "normal" for study in studies}
            splits = stratified(groups, self.shares, self.split_seed)
        samples = []
        for study in studies:
            truth = {"label": float(study.covid), "score": study.score}
            samples.append(
                Sample(
                    name=study.name,
                    path=study.path,
                    answer=truth[task.column],
                    split=splits[study.name],
                    patient=study.patient,
                    truth=truth,
                )
            )
        return samples


def spec_of(task: Task, settings: Settings) -> Spec:
    """The contract that the settings ask for.

    Raises:
        DatasetError: there is no contract of that name.
    """
    if settings.spec is None:
        return spec_on_grid(task.spec, settings.grid)
    known = SLICE_SPECS if task is SLICES else VOLUME_SPECS
    if settings.spec not in known:
        raise DatasetError(
            f"there is no preprocessing called {settings.spec!r} for {task.name}",
            expected=", ".join(known),
            fix="name one of these with --spec",
        )
    return spec_on_grid(known[settings.spec], settings.grid)


def _as_wanted(
    spec: Spec, volumes: list[Volume], labels: tuple[str, ...], folder: Path, settings: Settings
) -> Data:
    """Prepared data, if it was prepared as the settings ask."""
    given_grid = "x".join(map(str, spec.shape))
    name = spec.name.removesuffix(f"-{given_grid}")
    wanted_grid = None if settings.grid is None else "x".join(map(str, settings.grid))
    asked = {"spec": (settings.spec, name), "grid": (wanted_grid, given_grid)}
    for key, (wanted, given) in asked.items():
        if wanted is not None and wanted != given:
            raise DatasetError(
                f"{folder}: prepared with another {key}",
                found=given,
                expected=wanted,
                fix=f"leave out --{key}, or prepare the data with it",
            )
    return Data(spec=spec, volumes=volumes, labels=labels)
