"""Until a run of an engine is among the results, the README says so beside TensorRT's name."""

from __future__ import annotations

import re

import pytest

from conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
MEASURED = sorted((REPOSITORY / "benchmarks" / "results").glob("gpu-engine*.json"))

#: What a reader takes in at once: a row of a table, or a paragraph.
BLOCK = re.compile(r"^\|.*\n|(?:^[^|\n].*\n)+", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)
UNTRIED = re.compile(r"not\s+yet\s+run\s+on\s+hardware|None\s+has\s+yet\s+run\s+on\s+hardware")

pytestmark = pytest.mark.skipif(bool(MEASURED), reason="gpu-engine.json tells of a run")


def naming(text: str) -> list[str]:
    return [block for block in BLOCK.findall(text) if "tensorrt" in block.lower()]


def test_prose_and_tables_say_it_beside_every_claim():
    claims = naming(FENCED.sub("", README))
    assert len(claims) >= 2  # engines are explained, and have an extra
    for claim in claims:
        assert UNTRIED.search(claim), claim


def test_a_section_with_commands_says_it_in_its_prose():
    """A comment beside a command has no room for it."""
    shown = 0
    for section in re.split(r"^## ", README, flags=re.MULTILINE):
        if any("tensorrt" in block.lower() for block in FENCED.findall(section)):
            shown += 1
            said = naming(FENCED.sub("", section))
            assert any(UNTRIED.search(block) for block in said), section
    assert shown >= 1
