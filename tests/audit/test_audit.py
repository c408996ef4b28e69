"""What the audit finds among images whose copies are known, and that it finds nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.audit_images import COPIES, clean_root, cut_short, encoded, make_image, save, smooth
from helpers.tiff_files import RGB, tiff
from PIL import Image, features

from hw1.audit.duplicates import Groups, Link, find_copies
from hw1.audit.findings import Finding, count_leaks, find_all, headlines, statistics
from hw1.audit.image_hash import Match
from hw1.audit.inventory import take_inventory
from hw1.audit.label_errors import is_label_error
from hw1.audit.scan import scan_files
from hw1.errors import UserError


class Audit:
    """Everything up to the findings."""

    def __init__(self, root: Path) -> None:
        self.inventory = take_inventory(root)
        paths = [self.inventory.path(index) for index in range(len(self.inventory.images))]
        self.scan = scan_files(paths)
        self.groups = find_copies(paths, self.scan)
        self.findings = find_all(self.inventory, self.scan, self.groups)

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == kind]

    def pairs(self) -> set[tuple[str, ...]]:
        return {tuple(sorted(self.inventory.images[index].file for index in members)) for members in self.groups.copies()}


@pytest.mark.parametrize("name", COPIES)
def test_every_copy_in_another_split_is_a_leak_and_nothing_else_is(tmp_path, name):
    root = clean_root(tmp_path, 6)
    wanted = set()
    for number in range(6):
        original = Image.open(root / f"train/a/{number}.jpg")
        save(COPIES[name](original), root / f"val/a/copy{number}.jpg", quality=60)
        wanted.add((f"train/a/{number}.jpg", f"val/a/copy{number}.jpg"))
    audit = Audit(root)
    assert audit.pairs() == wanted
    assert {finding.kind for finding in audit.findings} == {"leak"}
    matches = [link.match for link in audit.groups.links]
    assert {match.how for match in matches} == {"near copy"}
    assert {match.mirrored for match in matches} == {"mirrored" in name}
    assert {match.resized for match in matches} == {name in ("resized", "enlarged", "squashed", "mirrored and resized")}
    assert count_leaks(audit.inventory, audit.groups) == {"val": {"train": 6}}


def test_the_same_bytes_and_the_same_pixels_are_distinguished(tmp_path):
    root = clean_root(tmp_path)
    shutil.copy(root / "train/a/0.jpg", root / "test/other name.jpg")
    with Image.open(root / "train/b/1.jpg") as image:
        save(image, root / "train/b/lossless.png")
    audit = Audit(root)
    assert {finding.kind: (finding.text, finding.files) for finding in audit.findings} == {
        "leak": ("in train and test: same file", ["train/a/0.jpg", "test/other name.jpg"]),
        "duplicate": ("2 times in train: same pixels", ["train/b/1.jpg", "train/b/lossless.png"]),
    }


def test_many_distinct_images_raise_no_alarm(tmp_path):
    for number in range(150):
        save(make_image(number, 96, 96), tmp_path / "train" / str(number % 2) / f"{number}.jpg")
    for number, image in enumerate(smooth().values()):
        save(image, tmp_path / f"train/0/smooth{number}.jpg", quality=75)
    audit = Audit(tmp_path)
    assert audit.findings == []
    assert statistics(audit.inventory, audit.scan)["traits"]["blank or smooth"]["pictures"] == len(smooth())


def test_images_that_share_all_but_a_part_are_distinct(tmp_path):
    """One scene with another subject, as product images and frames of a film are."""
    scene = np.array(make_image(7))
    for number in range(5):
        image = scene.copy()
        image[50:110, 60:140] = np.array(make_image(100 + number))[50:110, 60:140]
        save(Image.fromarray(image), tmp_path / f"train/a/{number}.jpg")
    assert Audit(tmp_path).findings == []


def test_another_colour_is_another_image(tmp_path):
    red = np.array(make_image(3))
    red[30:120, 40:160] = red[30:120, 40:160] // 2 + np.array([90, 0, 0], np.uint8)
    save(Image.fromarray(red), tmp_path / "train/a/red.jpg")
    save(Image.fromarray(red[:, :, [2, 1, 0]]), tmp_path / "train/a/blue.jpg")
    assert Audit(tmp_path).findings == []


def test_one_image_under_two_labels(tmp_path):
    root = clean_root(tmp_path)
    save(COPIES["mirrored"](Image.open(root / "train/a/2.jpg")), root / "train/b/2 again.jpg", quality=80)
    save(COPIES["resized"](Image.open(root / "train/a/2.jpg")), root / "val/b/9.jpg", quality=80)
    audit = Audit(root)
    files = ["train/a/2.jpg", "train/b/2 again.jpg", "val/b/9.jpg"]
    assert [(finding.kind, finding.files) for finding in audit.findings] == [("leak", files), ("conflict", files)]
    assert audit.of("conflict")[0].text.startswith("labelled a and b: ")


def test_files_that_cannot_be_read_are_named_with_the_reason(tmp_path):
    root = clean_root(tmp_path)
    (root / "train/a/cut.jpg").write_bytes(encoded(make_image(1))[:900])
    (root / "val/b/page.png").write_text("<html>not found</html>")
    (root / "test/gone.jpg").symlink_to(root / "nowhere.jpg")
    findings = [(finding.kind, finding.files, finding.text) for finding in Audit(root).findings]
    assert findings == [
        ("unreadable", ["train/a/cut.jpg"], "truncated"),
        ("unreadable", ["val/b/page.png"], "not an image (HTML)"),
        ("unreadable", ["test/gone.jpg"], "dangling link"),
    ]


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.9])
def test_files_that_end_in_zeros_are_found_in_every_format(tmp_path, kept):
    """A finding of one kind or the other: where the decoder does not notice, the zeros are counted."""
    kinds = ["jpg", "png", "gif", "bmp", "tiff", "ppm", "webp", "jp2", *(["avif"] if features.check("avif") else [])]
    for number, suffix in enumerate(kinds):
        save(make_image(number), tmp_path / f"train/a/whole.{suffix}")
        save(make_image(100 + number), tmp_path / f"train/a/cut.{suffix}")
        cut_short(tmp_path / f"train/a/cut.{suffix}", kept)
    audit = Audit(tmp_path)
    assert {file for finding in audit.findings for file in finding.files} == {f"train/a/cut.{suffix}" for suffix in kinds}
    assert {finding.files[0].partition(".")[2] for finding in audit.of("cut short")} == {"bmp", "tiff", "ppm", "webp", "avif"} & set(kinds)
    short = {finding.files[0]: finding.text for finding in audit.of("cut short")}
    size = (tmp_path / "train/a/cut.ppm").stat().st_size
    zeros = size - int(kept * size)
    assert short["train/a/cut.ppm"] == f"the last {zeros:,} bytes ({zeros / size:.0%}) are zero"


def test_a_black_background_is_not_cut_short(tmp_path):
    image = np.zeros((200, 200, 3), np.uint8)
    image[60:140, 60:140] = np.array(make_image(1, 80, 80))
    for suffix in ("bmp", "tiff", "ppm", "webp"):
        save(Image.fromarray(image), tmp_path / f"train/a/{suffix}/1.{suffix}")
    assert Audit(tmp_path).of("cut short") == []


def test_nearly_black_and_16_bit_images_are_traits(tmp_path):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    save(Image.fromarray(values), tmp_path / "train/a/12 bits.png")
    save(Image.fromarray(values * 16), tmp_path / "train/a/16 bits.png")
    (tmp_path / "train/a/colour.tiff").write_bytes(tiff(np.repeat(values[:, :, None] * 16, 3, 2), RGB))
    (tmp_path / "train/a/grey.pgm").write_bytes(b"P5 64 # of a camera\n64 65535\n" + (values * 16).astype(">u2").tobytes())
    save(make_image(1), tmp_path / "train/a/8 bits.pgm")
    audit = Audit(tmp_path)
    traits = statistics(audit.inventory, audit.scan)["traits"]
    assert traits["nearly black"]["examples"] == ["train/a/12 bits.png"]
    assert traits["16-bit"]["examples"] == [f"train/a/{name}" for name in ("12 bits.png", "16 bits.png", "colour.tiff", "grey.pgm")]


def test_classes_that_a_split_lacks(tmp_path):
    root = clean_root(tmp_path)
    save(make_image(1), root / "train/c/1.jpg")
    save(make_image(2), root / "val/d/1.jpg")
    (root / "train/empty").mkdir()
    texts = {finding.files[0]: finding.text for finding in Audit(root).of("missing class")}
    assert texts == {
        "val/c": "val has no image of class c (train has 1)",
        "train/d": "train has no image of class d (val has 1)",
        "train/empty": "train has no image of class empty",
        "val/empty": "val has no image of class empty",
    }


def test_a_folder_without_splits(tmp_path):
    for number in range(6):
        save(make_image(number), tmp_path / "ab"[number % 2] / f"{number}.jpg")
    save(make_image(0), tmp_path / "a/again.jpg", quality=70)
    audit = Audit(tmp_path)
    assert [(finding.kind, finding.files) for finding in audit.findings] == [("duplicate", ["a/0.jpg", "a/again.jpg"])]
    assert audit.inventory.splits == {"all": 7}
    assert any("val_fraction" in line for line in headlines(audit.inventory, {}, audit.findings))


def test_other_names_of_splits_and_strays_are_known(tmp_path):
    root = clean_root(tmp_path)
    (root / "val").rename(root / "Validation")
    (root / "train/notes.txt").touch()
    inventory = take_inventory(root)
    assert list(inventory.splits) == ["train", "Validation", "test"]
    assert inventory.strays == ["train/notes.txt"]


def test_images_that_are_passed_over_are_named_by_suffix_and_what_is_none_is_not(tmp_path):
    root = clean_root(tmp_path)
    for name in ("a/1.HEIC", "a/2.heic", "b/notes.txt", "b/.DS_Store", "b/Thumbs.db"):
        (root / "train" / name).touch()
    shutil.copy(root / "train/a/0.jpg", root / "val/b/download.part")
    save(make_image(60), root / "val/beside.jpg")
    save(make_image(61), root / "train/@eaDir/1.jpg")
    save(make_image(62), root / "train/b/photo.jpg").rename(root / "train/b/photo")
    audit = Audit(root)
    assert [(finding.kind, finding.text, finding.files) for finding in audit.findings] == [
        ("passed over", "2 .heic", ["train/a/1.HEIC", "train/a/2.heic"]),
        ("passed over", "1 .part", ["val/b/download.part"]),
        ("passed over", "1 .jpg beside the class folders", ["val/beside.jpg"]),
    ]
    assert audit.inventory.classes["train"] == {"a": 4, "b": 5}
    assert statistics(audit.inventory, audit.scan)["strays"] == 8


def test_classes_whose_names_are_alike(tmp_path):
    root = clean_root(tmp_path)
    for seed, folder in enumerate(("train/Cat", "val/cat", "train/caf\xe9", "val/cafe\u0301")):
        save(make_image(7000 + seed), root / folder / "1.jpg")
    assert [(finding.text, finding.files) for finding in Audit(root).of("alike")] == [
        ("differ only in Unicode form, case or spaces: 'Cat' and 'cat'", ["train/Cat", "val/cat"]),
        ("differ only in Unicode form, case or spaces: 'caf\\xe9' and 'cafe\\u0301'", ["train/caf\xe9", "val/cafe\u0301"]),
    ]


def test_a_test_split_of_two_readings_is_audited_by_both(tmp_path):
    root = clean_root(tmp_path)
    shutil.copy(root / "train/a/0.jpg", root / "test/copy.jpg")
    save(make_image(70), root / "test/a/1.jpg")
    shutil.copy(root / "train/b/0.jpg", root / "test/a/2.jpg")
    audit = Audit(root)
    beside = [f"test/{name}.jpg" for name in (0, 1, 2, 3, "copy")]
    assert [(finding.text, finding.files) for finding in audit.of("unclear")] == [("5 images beside the class folders of test", beside)]
    assert [finding.files for finding in audit.of("leak")] == [["train/a/0.jpg", "test/copy.jpg"], ["train/b/0.jpg", "test/a/2.jpg"]]
    assert audit.inventory.classes["test"] == {"a": 2}
    assert audit.inventory.strays == []


def test_kinds_and_sizes_are_counted(tmp_path):
    root = clean_root(tmp_path)
    save(make_image(50).convert("L"), root / "train/a/grey.jpg")
    save(make_image(51).convert("CMYK"), root / "train/a/cmyk.jpg")
    save(make_image(52).quantize(64), root / "train/a/palette.png")
    save(make_image(53).convert("RGBA"), root / "train/a/alpha.png")
    Image.fromarray(np.array(make_image(54).convert("L")).astype(np.uint16) * 256).save(root / "train/a/deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    make_image(55, 300, 100).save(root / "train/a/turned.jpg", exif=turned)
    audit = Audit(root)
    facts = statistics(audit.inventory, audit.scan)
    assert {kind: trait["examples"] for kind, trait in facts["traits"].items()} == {
        "16-bit": ["train/a/deep.png"],
        "CMYK": ["train/a/cmyk.jpg"],
        "EXIF-rotated": ["train/a/turned.jpg"],
        "alpha": ["train/a/alpha.png"],
        "grey": ["train/a/deep.png", "train/a/grey.jpg"],
        "palette": ["train/a/palette.png"],
    }
    train = facts["splits"]["train"]
    assert (train["pictures"], train["classes"], train["width"]) == (14, 2, {"min": 200, "median": 200.0, "max": 300})
    assert facts["classes"] == {"a": {"train": 10, "val": 4}, "b": {"train": 4, "val": 4}}
    assert (facts["imbalance"], facts["tiny_classes"]) == (2.5, {"b": 4})
    assert audit.findings == []


@pytest.mark.parametrize(("files", "message"), [((), "no images in class folders"), (("one/train/",), "did you mean")])
def test_a_folder_without_images_is_the_users_mistake(tmp_path, files, message):
    for file in files:
        (tmp_path / file).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        take_inventory(tmp_path)


def test_leaks_among_real_photographs_are_all_found(photos, tmp_path):
    """Against the pairs that these images have among themselves, from an audit without the planted ones."""
    chosen = sorted((photos / "train").glob("*/*.jpg"))[::23][:120]
    for number, path in enumerate(chosen):
        (tmp_path / "train/a").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / f"train/a/{number}.jpg")
    before = Audit(tmp_path).pairs()
    changes = list(COPIES.items())
    for number in range(0, 120, 2):
        with Image.open(tmp_path / f"train/a/{number}.jpg") as image:
            save(changes[number // 2 % len(changes)][1](image.convert("RGB")), tmp_path / f"val/a/{number}.jpg", quality=60)
    after = Audit(tmp_path).pairs()
    planted = {(f"train/a/{number}.jpg", f"val/a/{number}.jpg") for number in range(0, 120, 2)}
    untouched = {number for pair in before for number in pair}
    assert planted - after == {pair for pair in planted if pair[0] in untouched} - after
    assert {pair for pair in after - planted if not untouched & set(pair)} == set()


def test_a_label_is_doubted_where_the_model_is_as_sure_of_another_class_as_of_its_own():
    """Worked by hand: the means of the labels' own probabilities are 0.5 and 0.4; class 2 is no sample's label."""
    rows = [(0, 0.8, 0.1, 0.1), (0, 0.2, 0.7, 0.1), (0, 0.4, 0.55, 0.05), (0, 0.6, 0.3, 0.1), (1, 0.1, 0.6, 0.3), (1, 0.1, 0.2, 0.7)]
    labels = np.array([int(row[0]) for row in rows])
    probabilities = np.array([row[1:] for row in rows])
    assert probabilities[labels == 0, 0].mean() == pytest.approx(0.5)
    assert probabilities[labels == 1, 1].mean() == pytest.approx(0.4)
    assert is_label_error(probabilities, labels).tolist() == [False, True, True, False, False, False]


class CountingIds(np.ndarray):
    """Counts how many numbers are written."""

    written = 0

    def __setitem__(self, key, value):
        CountingIds.written += np.size(key)
        super().__setitem__(key, value)


@pytest.mark.parametrize("order", ["one by one", "by pairs"])
def test_joining_n_copies_renumbers_n_log_n_files_at_most(order):
    """Not n for each of n links, which took minutes for 200,000 names of a few hundred images."""
    num, match = 4096, Match("same file", False, False, 1.0)
    groups = Groups(num)
    groups.ids, CountingIds.written = groups.ids.view(CountingIds), 0
    if order == "one by one":
        pairs = [(0, index) for index in range(1, num)]
    else:
        pairs = [(start, start + step) for step in 2 ** np.arange(12) for start in range(0, num, 2 * step)]
    for first, second in pairs:
        groups.join(Link(first, second, match))
    assert groups.copies() == [list(range(num))]
    assert CountingIds.written <= (num if order == "one by one" else num // 2 * 12)
