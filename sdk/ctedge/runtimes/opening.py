"""Networks that are opened in a thread, while the first scan is read and preprocessed.

Importing a runtime and opening a network in it, and reading a scan, have nothing to do with each
other until the network is to run: a process that answers once does both at the same time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.interrupts import interrupts_deferred
from ctedge.runtimes import Device, Runtime, RuntimeName, lend_input, open_runtime


class Opening:
    """A runtime that is being opened. Whatever is asked of it waits, and raises what that raised;
    only an input it does not lend before it is open.

    Args:
        opened: all the runtimes that are opened together.
        place: which of them this is.
    """

    def __init__(self, opened: Future[list[Runtime]], place: int) -> None:
        self._opened, self._place = opened, place

    @property
    def name(self) -> str:
        return self._runtime.name

    @property
    def maps(self) -> tuple[str, ...]:
        return self._runtime.maps

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        return self._runtime.run(batch, outputs=outputs)

    def lend_input(self) -> npt.NDArray[Any] | None:
        if not self._opened.done() or self._opened.exception() is not None:
            return None
        return lend_input(self._runtime)

    def close(self) -> None:
        if self._opened.exception() is None:  # else there is none
            self._runtime.close()

    @property
    def _runtime(self) -> Runtime:
        return self._opened.result()[self._place]


def open_in_thread(
    bundles: Sequence[ModelBundle],
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
) -> list[Opening]:
    """What `open_runtime` opens of each bundle, one after another; all of them or none."""

    def open_all() -> list[Runtime]:
        with contextlib.ExitStack() as closing:
            opened = []
            for bundle in bundles:
                one = open_runtime(bundle, device=device, runtime=runtime, precision=precision)
                closing.callback(one.close)
                opened.append(one)
            closing.pop_all()
        return opened

    pool = ThreadPoolExecutor(1, thread_name_prefix="ctedge-open")
    opened: Future[list[Runtime]] | None = None
    # Else a thread may be left half started; and where none starts the scan is read behind it.
    with interrupts_deferred(), contextlib.suppress(RuntimeError):
        opened = pool.submit(open_all)
    if opened is None:
        opened = Future()
        opened.set_result(open_all())
    pool.shutdown(wait=False)
    return [Opening(opened, place) for place in range(len(bundles))]
