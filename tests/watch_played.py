"""The watch-folder worker without its models, at whose study `short` happens what a test plays."""

from __future__ import annotations

import json
import subprocess
import sys

from conftest import REPOSITORY
from patience import PATIENCE_S

EXAMPLES = REPOSITORY / "examples"

PLAYED = """
import errno, os, sys
played = sys.argv.pop(1)
sys.path.insert(0, sys.argv.pop(1))
import ctedge, watch_folder
class Model:
    load = classmethod(lambda kind, name: kind())
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None
ctedge.Classifier = ctedge.SeverityRegressor = Model
def judge(study, models):
    if study.name == "short":
        play()
    return []
def play(): ...
watch_folder.judge = judge
exec(played)
watch_folder.main()
"""


class Desk:
    """Three studies, and a worker that takes one look at them."""

    def __init__(self, folder):
        self.inbox, self.results = folder / "inbox", folder / "results"
        for name in ("a", "short", "z"):
            (self.inbox / name).mkdir(parents=True)
            (self.inbox / name / "one.dcm").write_text(name)

    def look(self, played="", *, settle=0):
        command = [sys.executable, "-c", PLAYED, played, EXAMPLES, self.inbox, self.results]
        command += ["--once", "--settle", str(settle)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )

    @property
    def answered(self):
        return sorted(path.stem for path in self.results.glob("*.json"))

    @property
    def error(self):
        return json.loads((self.results / "short.json").read_text())["error"]
