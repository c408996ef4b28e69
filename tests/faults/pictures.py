"""Damaged JPEG files, against Pillow, and odd TIFF files, against the values that were written; as the check before a run sees them."""

import os
import random
from pathlib import Path

import numpy as np
from helpers.image_files import image
from helpers.jpeg_damage import FORMS, damaged, jpeg, pillow_refuses
from helpers.tiff_files import CMYK, MIN_IS_BLACK, MIN_IS_WHITE, RGB, tiff

from faults.tally import Tally, expect
from hw1.data.bad_images import find_bad_images
from hw1.data.decode import BadImage, decode_image
from hw1.data.image_set import ImageSet


def damaged_jpegs(tally: Tally, folder: Path, n: int) -> None:
    """`n` files of every form, and as many photographs, damaged in every way: what Pillow refuses is found, the whole ones are not."""
    folder.mkdir(parents=True, exist_ok=True)
    root = os.environ.get("HW1_PHOTOS")
    photos = sorted(Path(root).rglob("*.jpg")) if root else []
    if not photos:
        tally.skipped.append("real photographs (HW1_PHOTOS names no folder of them)")
    for i in range(n):
        rng = random.Random(f"damaged {i}")
        whole = {form: jpeg(form, i) for form in FORMS}
        if photos:
            whole["photograph"] = rng.choice(photos).read_bytes()
        files = {f"{form} whole": data for form, data in whole.items()}
        files |= {f"{form} {kind}": broken for form, data in whole.items() for kind, broken in damaged(data, whole["baseline"], rng)}
        for number, data in enumerate(files.values()):
            (folder / f"{number}.jpg").write_bytes(data)
        found = find_bad_images(ImageSet(folder, tuple(f"{number}.jpg" for number in range(len(files))), None, 0))
        for number, (what, data) in enumerate(files.items()):
            with tally.attempt(f"{what}, {i}"):
                if what.endswith(" whole"):
                    expect(number not in found, f"a whole one was refused: {found.get(number)}")
                    continue
                refused = pillow_refuses(data)
                expect(number in found or not refused, "was not found, though Pillow refuses it")
                tally.seen["refused by Pillow too" if refused else "found beyond Pillow" if number in found else "not found"] += 1


def odd_tiffs(tally: Tally, folder: Path, n: int) -> None:
    """`n` draws of values, colours, layout and byte order: the high byte of each value is read, or one line says why not."""
    for i in range(n):
        rng = random.Random(f"odd tiff {i}")
        dtype = rng.choice([np.uint8, np.uint16])
        photometric, components = rng.choice([(MIN_IS_WHITE, 1), (MIN_IS_BLACK, 1), (RGB, 3), (RGB, 4), (CMYK, 4)])
        values = np.concatenate([image(), 255 - image()[:, :, :1]], 2)[:, :, :components].astype(dtype)
        if dtype == np.uint16:
            values = values * 256 + 255
        options = {
            "order": rng.choice("<>"),
            "planar": rng.random() < 0.5 and components > 1,
            "extra": 2 if (photometric, components) == (RGB, 4) else None,
        }
        options |= rng.choice([{"tile": 16}, {"tile": 48}, {"rows_per_strip": rng.randrange(1, 70)}])
        options |= rng.choice([{}, {"deflate": True}, {"deflate": True, "predictor": True}])
        with tally.attempt(f"{np.dtype(dtype)} {photometric} {options}, {i}"):
            try:
                read = decode_image(tiff(values, photometric, **options))
            except BadImage as error:
                expect(error.reason.startswith("not supported: TIFF"), error.reason)
                tally.seen["not supported"] += 1
                continue
            difference = np.abs(read.astype(int) - _expected(values, photometric)).max()
            expect(difference <= (photometric == CMYK), f"differs by {difference}")
            tally.seen["read"] += 1


def _expected(values: np.ndarray, photometric: int) -> np.ndarray:
    high = (values >> 8 if values.dtype == np.uint16 else values).astype(int)
    if photometric == CMYK:
        return (255 - high[:, :, :3]) * (255 - high[:, :, 3:]) // 255
    if photometric == MIN_IS_WHITE:
        high = 255 - high
    return high[:, :, :3] if high.shape[2] > 1 else np.repeat(high, 3, 2)
