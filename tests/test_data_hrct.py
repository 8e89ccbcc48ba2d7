"""The HRCT study's folders: the table, the reference numbers, and the split."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge.phantom import write_studies
from ctedge_training.hrct.references import scan_reference
from ctedge_training.hrct.studies import Study, read_studies, split_rows
from ctedge_training.tasks import SEVERITY_STUDY_LUNGS

pydicom = pytest.importorskip("pydicom")

#: One COVID and one normal study; more are copies with another reference.
HEADER = "path,covid,score\n"
COVID, NORMAL = "covid/patient-01,1,40\n", "normal/npatient-01,0,0\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hrct")
    write_studies(folder, count=4, seed=3, shape=(16, 16, 4))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Four studies: patient-01, patient-02, npatient-01, npatient-02."""
    return shutil.copytree(made, tmp_path / "data")


@pytest.fixture
def pair(folder: Path) -> Path:
    """The first of each class only, and no table."""
    shutil.rmtree(folder / "covid" / "patient-02")
    shutil.rmtree(folder / "normal" / "npatient-02")
    (folder / "data.csv").unlink()
    return folder


def table(folder: Path, text: str) -> Path:
    (folder / "data.csv").write_text(text, encoding="utf-8")
    return folder


def edit(study: Path, change: Callable[[pydicom.Dataset], None], *, files: int = 99) -> None:
    """Rewrite the first so many files of a study."""
    for path in sorted(study.iterdir())[:files]:
        image = pydicom.dcmread(path)
        change(image)
        image.save_as(path)


def drop_reference(image: pydicom.Dataset) -> None:
    del image.RequestAttributesSequence


def refer_to(reference: str) -> Callable[[pydicom.Dataset], None]:
    def change(image: pydicom.Dataset) -> None:
        image.RequestAttributesSequence[0].ScheduledProcedureStepID = reference

    return change


@pytest.mark.parametrize("workers", [1, 2])
def test_studies_are_read_in_the_order_of_the_rows(folder, workers):
    studies = read_studies(folder, workers=workers)
    assert [(s.name, s.covid, s.reference) for s in studies] == [
        ("patient-01", True, "SYNC00001"),
        ("patient-02", True, "SYNC00002"),
        ("npatient-01", False, "SYNN00001"),
        ("npatient-02", False, "SYNN00002"),
    ]
    assert studies[0].path == (folder / "covid" / "patient-01").resolve()
    assert studies[0].patient == "patient-01"
    assert 0 < studies[0].score < 20 <= studies[1].score < 40
    assert studies[2].score == 0.0


def test_the_reference_column_is_optional_and_a_study_may_lie_anywhere(pair):
    (pair / "hospital" / "a").mkdir(parents=True)
    (pair / "covid" / "patient-01").rename(pair / "hospital" / "a" / "patient-116")
    table(pair, "score,covid,path\n40.5,1,hospital/a/patient-116\n" + "0,0,normal/npatient-01\n")
    studies = read_studies(pair)
    assert (studies[0].name, studies[0].score, studies[0].reference) == (
        "patient-116",
        40.5,
        "SYNC00001",
    )


def test_only_headers_are_read(folder):
    for path in (folder / "covid" / "patient-01").iterdir():
        image = pydicom.dcmread(path)
        header_only = path.stat().st_size - len(image.PixelData)
        with path.open("r+b") as stream:
            stream.truncate(header_only)
    assert read_studies(folder)[0].reference == "SYNC00001"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing column path, covid, score"),
        ("path,covid\ncovid/patient-01,1\n", "missing column score"),
        (HEADER, "no study in the table"),
        (HEADER + "covid/patient-01,2,40\n" + NORMAL, "line 2: unreadable covid"),
        (HEADER + "covid/patient-01,,40\n" + NORMAL, "line 2: unreadable covid"),
        (HEADER + "covid/patient-01,1,100.5\n" + NORMAL, "line 2: unreadable score"),
        (HEADER + "covid/patient-01,1,high\n" + NORMAL, "line 2: unreadable score"),
        (HEADER + "covid/patient-01,0,0\n" + NORMAL, r"disagree(?s:.*)patient-01 with covid 0"),
        (HEADER + COVID + "normal/npatient-01,1,3\n", "line 3: the folder's name and the column"),
        (HEADER + COVID + "normal/npatient-03,0,0\n", "line 3: no such scan"),
        (HEADER + COVID + NORMAL + COVID, r"line 4: the scan is listed twice(?s:.*)on line 2"),
        (HEADER + COVID + NORMAL + "./" + COVID, "listed twice"),
        (HEADER + "../data/covid/../../outside/patient-09,1,4\n", "leads out of the data folder"),
        (HEADER + "masks,1,4\n", "not a study folder"),
        (HEADER + "masks/patient-01.nii.gz,1,4\n", "not a study folder"),
        (HEADER + COVID, r"without a row(?s:.*)normal/npatient-01(?s:.*)add their rows"),
        (HEADER + COVID + "normal/npatient-01,0\n", "wrong number of fields"),
    ],
)
def test_an_unsound_table_is_refused(pair, text, message):
    with pytest.raises(DatasetError, match=message):
        read_studies(table(pair, text))


def test_a_missing_or_binary_table_is_refused(pair):
    with pytest.raises(DatasetError, match=r"no data\.csv"):
        read_studies(pair)
    (pair / "data.csv").write_bytes(HEADER.encode() + b"covid/patient-01,1,\xff\n")
    with pytest.raises(DatasetError, match=r"cannot be read(?s:.*)UTF-8"):
        read_studies(pair)


def test_two_folders_of_one_name_are_refused(pair):
    (pair / "again").mkdir()
    (pair / "covid" / "patient-01").rename(pair / "again" / "patient-01")
    shutil.copytree(pair / "again" / "patient-01", pair / "covid" / "patient-01")
    with pytest.raises(DatasetError, match="line 4: two folders of the same name"):
        read_studies(table(pair, HEADER + COVID + NORMAL + "again/patient-01,1,3\n"))


def test_a_link_out_of_the_data_folder_is_refused(pair):
    (pair / "covid" / "patient-01").rename(pair.parent / "patient-01")
    (pair / "covid" / "patient-01").symlink_to(pair.parent / "patient-01")
    with pytest.raises(DatasetError, match="leads out"):
        read_studies(table(pair, HEADER + COVID + NORMAL))


def test_the_same_scan_in_two_folders_is_refused(folder):
    shutil.rmtree(folder / "covid" / "patient-02")
    shutil.copytree(folder / "covid" / "patient-01", folder / "covid" / "patient-02")
    table(folder, HEADER + COVID + "covid/patient-02,1,30\n" + NORMAL + "normal/npatient-02,0,0\n")
    with pytest.raises(DatasetError, match=r"two study folders(?s:.*)SYNC00001"):
        read_studies(folder)


def test_only_the_first_nine_characters_count(pair):
    table(pair, HEADER + COVID + NORMAL)
    edit(pair / "covid" / "patient-01", refer_to("SYNN00001-OTHER"))
    with pytest.raises(DatasetError, match="two study folders"):
        read_studies(pair)


def test_the_table_must_name_the_reference_of_the_files(folder):
    text = (folder / "data.csv").read_text()
    table(folder, text.replace("SYNC00002-CT", "SYNC00009-CT"))
    with pytest.raises(DatasetError, match=r"another scan(?s:.*)SYNC00002(?s:.*)SYNC00009-CT"):
        read_studies(folder)
    table(folder, text.replace("SYNC00002-CT", "SYNC00002"))
    assert read_studies(folder)[1].reference == "SYNC00002"


def test_files_of_two_scans_in_one_folder_are_refused(pair):
    table(pair, HEADER + COVID + NORMAL)
    edit(pair / "covid" / "patient-01", refer_to("SYNC00007-CT"), files=1)
    with pytest.raises(DatasetError, match=r"disagree(?s:.*)SYNC00007(?s:.*)SYNC00001"):
        read_studies(pair)
    edit(pair / "covid" / "patient-01", drop_reference, files=1)
    with pytest.raises(DatasetError, match=r"disagree(?s:.*)no reference"):
        read_studies(pair, allow_missing_reference=True)


@pytest.mark.parametrize("change", [drop_reference, refer_to("")])
def test_a_missing_reference_is_refused_unless_allowed(pair, change):
    table(pair, HEADER + COVID + NORMAL)
    for name in ("covid/patient-01", "normal/npatient-01"):
        edit(pair / name, change)
    with pytest.raises(DatasetError, match=r"patient-01: no CT reference number"):
        read_studies(pair)
    assert [s.reference for s in read_studies(pair, allow_missing_reference=True)] == [None, None]
    table(pair, "path,covid,score,reference\ncovid/patient-01,1,4,SYNC00001\n" + NORMAL[:-1] + ",")
    with pytest.raises(DatasetError, match=r"no CT reference number(?s:.*)expected: SYNC00001"):
        read_studies(pair, allow_missing_reference=True)


def test_other_files_are_passed_over_and_damaged_ones_refused(pair):
    table(pair, HEADER + COVID + NORMAL)
    study = pair / "covid" / "patient-01"
    (study / "notes.txt").write_text("not DICOM")
    assert scan_reference(study) == "SYNC00001"
    victim = min(study.glob("*.dcm"))
    data = victim.read_bytes()
    victim.write_bytes(data[: data.index(b"\x40\x00\x75\x02SQ") + 14])
    with pytest.raises(DatasetError, match=rf"{victim.name}: the DICOM file is damaged"):
        read_studies(pair)
    victim.write_bytes(data[:200])
    with pytest.raises(DatasetError, match=rf"disagree(?s:.*){victim.name}: no reference"):
        read_studies(pair)
    for path in study.iterdir():
        path.write_text("not DICOM")
    with pytest.raises(DatasetError, match="no DICOM file in this study folder"):
        read_studies(pair)


@pytest.mark.realdata
def test_a_real_chest_without_the_tag_is_refused_with_a_clear_error(pair, real_data):
    study = pair / "covid" / "patient-01"
    shutil.rmtree(study)
    shutil.copytree(real_data / "dicom" / "covid_chest", study)
    table(pair, HEADER + COVID + NORMAL)
    with pytest.raises(DatasetError, match=r"no CT reference number(?s:.*)0040,0275"):
        read_studies(pair)
    assert read_studies(pair, allow_missing_reference=True)[0].reference is None


def test_the_spec_of_the_study_is_lungs_only():
    assert SEVERITY_STUDY_LUNGS.name == "severity-study-lungs"
    assert SEVERITY_STUDY_LUNGS.lungs_only
    assert (SEVERITY_STUDY_LUNGS.shape, SEVERITY_STUDY_LUNGS.axes) == ((64, 128, 128), "SPL")


def studies_of(covid: int, normal: int) -> list[Study]:
    kinds = [("patient", covid), ("npatient", normal)]
    names = [f"{kind}-{n:02d}" for kind, count in kinds for n in range(count)]
    return [
        Study(name=n, path=Path(n), covid=n[0] == "p", score=0.0, reference=None) for n in names
    ]


def test_the_split_of_the_report(rng):
    studies = studies_of(125, 85)
    split = split_rows(studies, seed=5)
    counts = Counter((name.startswith("n"), split[name]) for name in split)
    assert counts == {
        (False, "train"): 101,
        (False, "validation"): 24,
        (True, "train"): 69,
        (True, "validation"): 16,
    }
    shuffled = [studies[index] for index in rng.permutation(len(studies))]
    assert split_rows(shuffled, seed=5) == split
    assert split_rows(studies, seed=6) != split


@pytest.mark.parametrize(("covid", "normal"), [(5, 4), (12, 8), (63, 42), (400, 17)])
def test_other_numbers_are_split_in_proportion(covid, normal):
    split = split_rows(studies_of(covid, normal))
    train = Counter(split.values())["train"]
    assert abs(train - (covid + normal) * 170 / 210) < 1
    for prefix, count in (("p", covid), ("n", normal)):
        here = sum(1 for n, its in split.items() if n.startswith(prefix) and its == "train")
        assert abs(here - count * 170 / 210) < 1


@pytest.mark.parametrize(
    ("covid", "normal", "message"),
    [(40, 1, "'validation' would hold no patient of the class 'normal'"), (0, 0, "no patients")],
)
def test_a_split_without_a_class_is_refused(covid, normal, message):
    with pytest.raises(DatasetError, match=message):
        split_rows(studies_of(covid, normal))
