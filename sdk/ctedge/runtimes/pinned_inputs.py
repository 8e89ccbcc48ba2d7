"""Inputs in page-locked memory, lent out: preprocessing writes where the GPU uploads from.

The memory is the process's own, and the driver locks its pages. Unlocked again it is memory like
any other: an array of it that somebody still holds is never an array of nothing, not after `close`,
not with a GPU that is lost, and not in a forked child. It is shared memory, which a fork does not
copy: the parent would write into the copy, and the GPU read the pages that it knows.

Source: docs.nvidia.com/cuda/cuda-driver-api (cuMemHostRegister).
"""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.interrupts import interrupts_deferred
from ctedge.runtimes.cuda_memory import Cuda, CudaFailure

#: Prepared scans that two streams of them hold at once: each has one that runs, one that waits, and
#: one that is being prepared. Whoever asks beyond that prepares into memory of its own.
MOST = 6

#: What the driver would not unlock stays: unmapped, its addresses could become another's.
_stranded: list[npt.NDArray[np.uint8]] = []


class PinnedInputs:
    """Memory for the inputs of one engine, made as it is asked for, and used again.

    Args:
        cuda: the driver.
        shape: of an input, without the batch axis.
        dtype: the engine's.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.cuda, self.shape, self.dtype = cuda, (1, *shape), np.dtype(dtype)
        self._most = MOST
        # In `with`, which Ctrl-C cannot part from it; a destructor may predict, and ask again.
        self._changing = threading.RLock()
        self._made: list[npt.NDArray[np.uint8]] = []
        self._locked: list[_Locked] = []
        self._kept = ExitStack()

    def lend(self) -> npt.NDArray[Any] | None:
        """An input (1, *shape) for the caller alone, until no array of it is left; None: no more.

        What is in it is left from before.
        """
        with self._changing:
            free = next((one for one in self._locked if one.loan() is None), None) or self._more()
            loan = None if free is None else free.lend(self)
        return None if loan is None else np.asarray(loan)

    def close(self) -> list[str]:
        """Lend nothing more, and unlock all memory, also what is lent; what the driver refused."""
        with self._changing:  # to the end: who closes as well goes on to the GPU's context
            self._most = 0
            self._locked.clear()
            failures = []
            try:
                if self._made:
                    with self.cuda.current():
                        self._kept.close()
            except CudaFailure as failure:
                _stranded.extend(self._made)
                failures.append(str(failure))
            self._made.clear()  # not before: interrupted, this is done again
        return failures

    def _more(self) -> _Locked | None:
        if len(self._locked) >= self._most:
            return None
        try:
            memory = _pages(int(np.prod(self.shape)) * self.dtype.itemsize)
            self._made.append(memory)  # before it is locked: from then on it has to stay mapped
            with interrupts_deferred(), self.cuda.current():
                self.cuda.lock(memory, self._kept)
                locked = _Locked(memory)
                self._locked.append(locked)
        except (CudaFailure, OSError):  # it goes without; a lost GPU is said where it runs
            self._most = len(self._locked)
            return None
        return locked


@dataclass
class _Locked:
    """Memory whose pages the driver has locked, and what it was lent as: gone, it is free again."""

    memory: npt.NDArray[np.uint8]
    loan: Callable[[], _Loan | None] = lambda: None

    def lend(self, inputs: PinnedInputs) -> _Loan:
        loan = _Loan(inputs, self.memory)
        self.loan = weakref.ref(loan)
        return loan


class _Loan:
    """What arrays of one memory have in common: it ends with the last of them."""

    def __init__(self, inputs: PinnedInputs, memory: npt.NDArray[np.uint8]) -> None:
        self.inputs, self._memory = inputs, memory
        self.__array_interface__ = {
            "version": 3,
            "shape": inputs.shape,
            "typestr": inputs.dtype.str,
            "data": (memory.ctypes.data, False),
        }


def is_lent(batch: npt.NDArray[Any], cuda: Cuda) -> bool:
    """Whether a batch is an input that was lent of this driver's memory, the whole of it."""
    owner: object = batch
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, _Loan) or owner.inputs.cuda is not cuda:
        return False
    whole = (owner.inputs.shape, owner.inputs.dtype)
    return (batch.shape, batch.dtype) == whole and batch.flags.c_contiguous


def _pages(size: int) -> npt.NDArray[np.uint8]:
    """Whole pages, which nobody else has a part of."""
    whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(-1, whole), np.uint8)
