"""Test that `sixray synth` writes a corpus that the rest can read, the same bytes every time."""

import io
import re
from pathlib import Path

import fsspec
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from pipelines import cli, synth
from shards.corpus.annotations import parse_annotation
from shards.corpus.label_lists import read_list
from shards.format.classes import load_class_set

pytestmark = pytest.mark.slow

CLASSES = load_class_set("sixray")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """A corpus of 33 scans, 11 of them positive."""
    root: Path = tmp_path_factory.mktemp("synth") / "corpus"
    synth.generate_corpus(
        synth.SynthConfig(output=str(root), num_scans=33, seed=5, negatives_per_positive=2, num_workers=1)
    )
    return root


def read_tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_boxes(path: Path):
    return parse_annotation(path.read_bytes(), CLASSES.spellings).boxes


def read_rows(corpus: Path, subset: str, split: str):
    rows = list(read_list(str(corpus / "ImageSet" / subset / f"{split}.csv"), CLASSES.scored))
    assert all(row.problem == "" for row in rows)
    return {row.name: row.labels for row in rows}


def test_every_scan_is_a_whole_jpeg_of_the_releases_kind(corpus):
    names = [path.name for path in sorted((corpus / "JPEGImage").iterdir())]
    expected = [f"N{index:07d}.jpg" for index in range(1, 23)] + [f"P{index:05d}.jpg" for index in range(1, 12)]
    assert names == expected
    quality_75 = io.BytesIO()
    Image.new("RGB", (8, 8)).save(quality_75, "JPEG", quality=75)
    quantization = JpegImageFile(io.BytesIO(quality_75.getvalue())).quantization
    for name in names:
        image = JpegImageFile(corpus / "JPEGImage" / name)
        image.load()
        assert image.mode == "RGB"
        assert "progressive" not in image.info
        assert get_sampling(image) == 2  # 4:2:0
        assert image.quantization == quantization


def test_boxes_are_items_of_the_known_classes_within_the_scan(corpus):
    for path in (corpus / "Annotation").iterdir():
        with Image.open(corpus / "JPEGImage" / f"{path.stem}.jpg") as image:
            width, height = image.size
        text = path.read_text()
        assert f"<width>{width}</width>" in text
        assert f"<height>{height}</height>" in text
        boxes = read_boxes(path)
        assert boxes
        for box in boxes:
            assert 0 <= box.xmin_px < box.xmax_px <= width
            assert 0 <= box.ymin_px < box.ymax_px <= height
            assert min(box.xmax_px - box.xmin_px, box.ymax_px - box.ymin_px) > 3


def test_an_annotation_has_the_releases_form(corpus):
    text = (corpus / "Annotation" / "P00001.xml").read_text()
    assert text.startswith("<annotation>\n\t<folder>X_ray</folder>\n\t<filename>P00001.jpg</filename>\n\t<source>\n")
    assert "\t<owner>\n\t\t<flickrid>0</flickrid>\n\t\t<name>" in text
    assert re.search(r"\t\t<bndbox>\n\t\t\t<xmin>\d+(\.\d{1,3})?</xmin>\n", text)
    assert text.endswith("\t</object>\n</annotation>\n")


def test_negatives_have_no_annotation_and_every_positive_has_one(corpus):
    annotated = {path.stem for path in (corpus / "Annotation").iterdir()}
    assert annotated == {path.stem for path in (corpus / "JPEGImage").glob("P*.jpg")}


@pytest.mark.parametrize("subset", ["10", "100", "1000"])
def test_the_lists_say_what_the_annotations_say(corpus, subset):
    for split in ("train", "test"):
        for name, labels in read_rows(corpus, subset, split).items():
            path = corpus / "Annotation" / f"{name}.xml"
            present = {box.class_name for box in read_boxes(path)} if path.exists() else set()
            assert labels == tuple(int(name in present) for name in CLASSES.scored)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(tmp_path):
    for name, num_workers in (("one", 1), ("two", 2)):
        synth.generate_corpus(
            synth.SynthConfig(
                output=str(tmp_path / name), num_scans=8, seed=3, negatives_per_positive=3, num_workers=num_workers
            )
        )
    assert read_tree(tmp_path / "one") == read_tree(tmp_path / "two")


def test_another_seed_gives_other_scans(tmp_path):
    for seed in (1, 2):
        synth.generate_corpus(
            synth.SynthConfig(
                output=str(tmp_path / str(seed)), num_scans=2, seed=seed, negatives_per_positive=1, num_workers=1
            )
        )
    first, second = read_tree(tmp_path / "1"), read_tree(tmp_path / "2")
    images = [name for name in first if name.startswith("JPEGImage")]
    assert len(images) == 2
    assert all(first[name] != second[name] for name in images)


def test_a_run_that_was_killed_is_finished_by_running_it_again(tmp_path):
    arguments = {"num_scans": 6, "seed": 4, "negatives_per_positive": 1, "num_workers": 1}
    synth.generate_corpus(synth.SynthConfig(output=str(tmp_path), **arguments))
    whole = read_tree(tmp_path)
    (tmp_path / "JPEGImage" / "P00002.jpg").unlink()
    (tmp_path / "Annotation" / "P00003.xml").write_text("<annotation>")
    for path in (tmp_path / "ImageSet").rglob("*.csv"):
        path.unlink()
    synth.generate_corpus(synth.SynthConfig(output=str(tmp_path), **arguments))
    assert read_tree(tmp_path) == whole


def test_an_output_with_another_corpus_is_refused(tmp_path):
    (tmp_path / "JPEGImage").mkdir()
    (tmp_path / "JPEGImage" / "P00009.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"output must be empty or hold this corpus, got a file of another \(.*P00009"):
        synth.generate_corpus(synth.SynthConfig(output=str(tmp_path), num_scans=4, seed=0, num_workers=1))
    assert not (tmp_path / "ImageSet").exists()


def test_a_corpus_can_be_written_to_another_store():
    synth.generate_corpus(
        synth.SynthConfig(output="memory://synth/corpus", num_scans=2, seed=0, negatives_per_positive=1, num_workers=1)
    )
    store = fsspec.filesystem("memory")
    assert store.exists("/synth/corpus/ImageSet/1000/test.csv")
    assert store.cat_file("/synth/corpus/JPEGImage/P00001.jpg")[:2] == b"\xff\xd8"
    store.rm("/synth", recursive=True)


def test_several_processes_cannot_share_a_store_in_memory():
    with pytest.raises(ValueError, match="workers must be 1 for a store that lives within one process, got 2"):
        synth.generate_corpus(synth.SynthConfig(output="memory://synth", num_scans=2, seed=0, num_workers=2))


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    flags = ["--output", str(tmp_path / "c"), "--num-scans", "3", "--negatives-per-positive", "2", "--workers", "1"]
    assert cli.main(["synth", *flags]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("3 scans (1 positive), 0.")
    assert "synth: 3 of 3 scans" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-scans", "0"], "num_scans must be >= 1, got 0"),
        (["--seed", "-1"], "seed must be >= 0, got -1"),
        (["--negatives-per-positive", "-2"], "negatives_per_positive must be >= 0, got -2"),
        (["--workers", "0"], "workers must be >= 1, got 0"),
        (["--num-scans", "200000", "--negatives-per-positive", "0"], "at most 99999 positives"),
    ],
)
def test_a_number_out_of_range_is_wrong_usage(tmp_path, capsys, flags, message):
    assert synth.main(["--output", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_misspelt_flag_is_wrong_usage(tmp_path):
    with pytest.raises(SystemExit) as caught:
        synth.main(["--output", str(tmp_path), "--num-scan", "3"])
    assert caught.value.code == 2
