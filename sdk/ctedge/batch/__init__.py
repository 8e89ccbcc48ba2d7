"""A table of scans, judged by many processes on one machine or on a Ray cluster.

`table` reads the CSV, `workers` judges one scan in a process that holds the model, `cluster` brings
the scans to those processes, `journal` keeps what is finished, `results` writes the Parquet file,
and `run` is the whole.
"""

from __future__ import annotations

from ctedge.batch.run import BatchSummary, run_batch
from ctedge.batch.workers import Plan

__all__ = ["BatchSummary", "Plan", "run_batch"]
