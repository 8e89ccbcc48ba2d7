"""The surface that `__all__` promises, and which way the arrows between the packages go."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys

import pytest

import ctedge
from conftest import REPOSITORY
from patience import PATIENCE_S

ROOTS = {
    "ctedge": REPOSITORY / "sdk" / "ctedge",
    "ctedge_export": REPOSITORY / "export" / "ctedge_export",
    "ctedge_training": REPOSITORY / "training" / "ctedge_training",
}
MAY_IMPORT = {
    "ctedge": {"ctedge"},
    "ctedge_export": {"ctedge", "ctedge_export"},
    "ctedge_training": {"ctedge", "ctedge_training"},
}
SDK_THIRD_PARTY = {
    "numpy",
    "nibabel",
    "isal",
    "typer",
    "rich",
    "onnxruntime",
    "pydicom",
    "PIL",
    "pyarrow",
    "ray",
}


def imported(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", ROOTS)
def test_arrows_go_one_way(package):
    for path in ROOTS[package].rglob("*.py"):
        assert imported(path) & set(ROOTS) <= MAY_IMPORT[package], path


def test_the_sdk_imports_nothing_beyond_its_dependencies():
    for path in ROOTS["ctedge"].rglob("*.py"):
        third_party = imported(path) - set(sys.stdlib_module_names) - {"ctedge"}
        assert third_party <= SDK_THIRD_PARTY, path


@pytest.mark.parametrize("root", ROOTS.values(), ids=str)
def test_every_file_can_be_read_in_one_sitting(root):
    for path in root.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300, path


@pytest.mark.parametrize("name", ctedge.__all__)
def test_each_public_name_is_there_and_explained(name):
    value = getattr(ctedge, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), name


def test_all_lists_what_the_type_checker_sees():
    tree = ast.parse((ROOTS["ctedge"] / "__init__.py").read_text())
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("ctedge.")
        for alias in node.names
    }
    assert {*typed, "__version__"} == set(ctedge.__all__)
    assert sorted(ctedge.__all__) == dir(ctedge)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        ctedge.nothing  # noqa: B018


def test_options_are_keyword_only():
    for function in (
        ctedge.read_scan,
        ctedge.preprocess,
        ctedge.Classifier.load,
        ctedge.SliceClassifier.load,
    ):
        parameters = list(inspect.signature(function).parameters.values())
        kinds = {parameter.kind for parameter in parameters[1:]}
        allowed = {inspect.Parameter.KEYWORD_ONLY}
        if function is ctedge.preprocess:  # the spec is the second argument
            kinds.discard(inspect.Parameter.POSITIONAL_OR_KEYWORD)
        assert kinds <= allowed


def modules_after(code: str) -> set[str]:
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=PATIENCE_S)
    return {name.partition(".")[0] for name in json.loads(output.splitlines()[-1])}


HEAVY = {
    "PIL",
    "scipy",
    "tensorflow",
    "keras",
    "pydicom",
    "onnx",
    "onnxruntime",
    "nibabel",
    "typer",
}


def test_importing_the_whole_surface_loads_numpy_and_nothing_heavier():
    loaded = modules_after("import ctedge; [getattr(ctedge, name) for name in ctedge.__all__]")
    assert "numpy" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["predict", "--help"],
        ["batch", "--help"],
        ["train", "--help"],
        ["train", "classifier", "--help"],
        ["export", "onnx", "--help"],
        ["export", "build-engine", "--help"],
        ["export", "inspect", "--help"],
        ["assess", "--help"],
    ],
    ids=" ".join,
)
def test_help_loads_no_numpy(arguments):
    code = (
        f"sys.argv = ['ctedge', *{arguments!r}]\n"
        "from ctedge.cli import main\n"
        "try: main()\nexcept SystemExit as stop: assert not stop.code"
    )
    assert not modules_after(code) & (HEAVY - {"typer"} | {"numpy"})
