"""`ctedge export triton`: what lies in the repository, what is added to it, and what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import TensorProto, helper
from typer.testing import CliRunner

from bundle_factory import description_of, write_tiny
from conftest import REPOSITORY
from ctedge import __version__
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    BundleNotFound,
    InvalidBundle,
    OutputError,
    WrongTask,
)
from ctedge.lung_spec import LUNG_LABELS
from ctedge_export.cli import app
from ctedge_export.writer import write_bundle
from folders import contents
from lungmask_factory import SMALL
from triton_here import export, refused


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_tiny(tmp_path_factory.mktemp("triton") / "tiny.ctedge")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_three_models_and_where_they_come_from(tiny, repo):
    output = export(tiny.path, "-o", repo)
    assert output.splitlines()[-1] == str(repo)
    assert f"ctedge=={__version__}" in output
    files = contents(repo)
    assert set(files) == {
        "PROVENANCE.json",
        "tiny/1/.keep",
        "tiny/config.pbtxt",
        "tiny/labels.txt",
        "tiny_network/1/model.onnx",
        "tiny_network/config.pbtxt",
        "tiny_preprocess/1/model.py",
        "tiny_preprocess/config.pbtxt",
    }
    assert files["tiny_network/1/model.onnx"] == tiny.model
    assert files["tiny/labels.txt"] == b"abnormal\n"
    told = json.loads(files.pop("PROVENANCE.json"))["models"]["tiny"]
    assert told["ctedge"] == __version__
    assert told["bundle"]["digest"] == tiny.digest
    assert told["bundle"]["members"]["model.onnx"] == hashlib.sha256(tiny.model).hexdigest()
    assert told["network"]["runs"] == "onnxruntime-cpu-fp32"
    assert told["files"] == {name: hashlib.sha256(files[name]).hexdigest() for name in files}


def test_equal_exports_make_equal_repositories(tiny, tmp_path):
    first, second = tmp_path / "one", tmp_path / "two" / "deeper"
    export(tiny.path, "-o", first)
    export(tiny.path, "-o", second)
    assert contents(first) == contents(second)


def test_a_repository_takes_further_models(tiny, repo, tmp_path):
    export(tiny.path, "-o", repo)
    (repo / "somebody" / "1").mkdir(parents=True)
    (repo / "somebody" / "config.pbtxt").write_text('name: "somebody"\n')
    before = contents(repo)
    write_tiny(tmp_path / "other.ctedge", task="severity")
    export(tmp_path / "other.ctedge", "-o", repo)
    after = contents(repo)
    models = json.loads(after["PROVENANCE.json"])["models"]
    assert models["tiny"] == json.loads(before.pop("PROVENANCE.json"))["models"]["tiny"]
    assert set(models) == {"tiny", "other"}
    assert before.items() <= after.items()
    assert (repo / "somebody" / "1").is_dir()
    assert "other/labels.txt" not in after
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_model_is_replaced_only_when_asked(tiny, repo, tmp_path):
    export(tiny.path, "-o", repo)
    (repo / "tiny" / "leftover").write_bytes(b"")
    changed = write_tiny(tmp_path / "tiny.ctedge", labels=["healthy", "ill"])
    before = contents(repo)
    assert "--overwrite" in str(refused(OutputError, changed.path, "-o", repo))
    assert contents(repo) == before
    export(changed.path, "-o", repo, "--overwrite")
    after = contents(repo)
    assert after["tiny/labels.txt"] == b"ill\n"
    assert "tiny/leftover" not in after


def test_folders_of_others_are_left_alone(tiny, repo, tmp_path):
    repo.mkdir()
    refused(OutputError, tiny.path, "-o", repo, "--overwrite")
    assert list(repo.iterdir()) == []
    (repo / "PROVENANCE.json").write_text('{"schema_version": 2, "models": {}}')
    refused(OutputError, tiny.path, "-o", repo, "--overwrite")
    (repo / "PROVENANCE.json").write_text('{"schema_version": 1, "models": {}}')
    (repo / "tiny_network").mkdir()
    refused(OutputError, tiny.path, "-o", repo, "--overwrite")
    (repo / "tiny_network").rmdir()
    link = tmp_path / "link"
    link.symlink_to(repo)
    refused(OutputError, tiny.path, "-o", link)
    export(tiny.path, "-o", repo)
    part = write_tiny(tmp_path / "tiny_network.ctedge")
    assert "the model tiny" in str(refused(OutputError, part.path, "-o", repo, "--overwrite"))


def test_nothing_is_left_where_it_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    refused(OutputError, tiny.path, "-o", tmp_path / "file")
    refused(OutputError, tiny.path, "-o", tmp_path / "file" / "models")

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    export(tiny.path, "-o", tmp_path / "models")
    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    refused(OutputError, tiny.path, "-o", tmp_path / "models", "--overwrite")
    refused(OutputError, tiny.path, "-o", tmp_path / "new")
    monkeypatch.undo()
    assert contents(tmp_path) == before


def lung_bundle(path: Path) -> Path:
    """A network for lungs that calls every pixel everything."""
    shape = [len(LUNG_LABELS), *SMALL.shape]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Concat", ["image"] * shape[0], ["logits"], "logits", axis=1)],
        "lungs",
        [value("image", TensorProto.FLOAT, ["batch", 1, *SMALL.shape])],
        [value("logits", TensorProto.FLOAT, ["batch", *shape])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    description = description_of("lungs", SMALL, gates={})
    members = {"model.onnx": model.SerializeToString()}
    return write_bundle(path, description=description, members=members).path


def test_what_is_no_bundle_of_a_judge_is_refused(tiny, repo, tmp_path):
    refused(BundleNotFound, tmp_path / "nothing.ctedge", "-o", repo)
    refused(InvalidBundle, tmp_path, "-o", repo)
    found = refused(WrongTask, lung_bundle(tmp_path / "lungs.ctedge"), "-o", repo)
    assert "LungSegmenter" in str(found)
    spoilt = write_tiny(tmp_path / "spoilt.ctedge")
    (spoilt.path / "model.onnx").write_bytes(spoilt.model + b"\0")
    refused(InvalidBundle, spoilt.path, "-o", repo)
    assert not repo.exists()


def test_the_page_names_options_that_exist():
    page = (REPOSITORY / "docs" / "triton.md").read_text()
    fences = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    commands = [line for kind, code in fences if kind == "sh" for line in code.splitlines()]
    named = {word for line in commands if "export triton" in line for word in line.split()}
    known = CliRunner().invoke(app, ["triton", "--help"]).output
    assert {word for word in named if word.startswith("--")} <= set(known.split())
    (client,) = (code for kind, code in fences if kind == "python")
    compile(client, "docs/triton.md", "exec")
