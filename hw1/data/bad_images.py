"""Find the images of a set that cannot be decoded, before a run starts. No torch."""

import os
import sys
from collections.abc import Sequence
from typing import Literal

import cv2
import PIL

from hw1.data.decode import DARK, BadImage, read_image
from hw1.data.file_kinds import has_16_bits
from hw1.data.image_set import ImageFile, ImageSet
from hw1.data.verified_files import Stamp, load_verified, save_verified
from hw1.errors import UserError
from hw1.runtime.cpu import map_on_cores
from hw1.utils.console import say
from hw1.utils.text import printable

VERIFIED_BY = f"2 OpenCV {cv2.__version__} Pillow {PIL.__version__}"  # raise the number when `decode_image` becomes stricter


def find_bad_images(images: ImageSet) -> dict[int, str]:
    """Decode every file once, on all cores.

    A file that was good before is not decoded again while its path and stamp (`ImageSet.stamp`) stay the same and it
    may still be read.

    Returns:
        The reason for each file that cannot be decoded, by its index, in ascending order.
    """
    verified = load_verified(VERIFIED_BY)
    bad: dict[int, str] = {}
    good: dict[str, Stamp] = {}
    dark: list[int] = []
    unverified: list[tuple[int, str, Stamp]] = []
    for index, file in enumerate(images.files):
        location = images.location(file)
        stamp = images.stamp(file)  # before the file is read: if it changes meanwhile, the next stamp differs
        if stamp is None:
            bad[index] = _decode_error(images.image_file(index)) or "no such file"
        elif verified.get(location) != stamp or not (images.archive or _may_read(location)):
            unverified.append((index, location, stamp))

    def check(number: int) -> None:
        index, location, stamp = unverified[number]
        file = images.image_file(index)
        try:
            image = read_image(file)
        except BadImage as error:
            bad[index] = error.reason
            return
        good[location] = stamp
        if int(image.max()) < DARK and _has_16_bits(file):
            dark.append(index)

    try:
        map_on_cores(check, len(unverified), "checking images")
    finally:  # also after an interruption: what was decoded until then is not decoded again
        if good:
            save_verified(VERIFIED_BY, good)
    if dark:
        advice = "they use 12 of 16 bits, of which the high byte is read: scale the values"
        say(f"{len(dark)} of {len(images)} images are nearly black, as {printable(images.image_file(min(dark)))}: {advice}")
    return dict(sorted(bad.items()))


def check_images(
    sets: Sequence[ImageSet], on_bad: Literal["stop", "skip"], skip_option: str = "data.bad_images=skip", *, max_bad: float = 1.0
) -> list[ImageSet]:
    """Return the sets without the images that cannot be decoded.

    Args:
        sets: The image sets to check.
        on_bad: "stop" raises an error if there is a bad image; "skip" leaves bad images out and prints their number to stderr.
        skip_option: The option that the error recommends for leaving them out.
        max_bad: Largest fraction (0-1) of all images that may be left out.

    Raises:
        UserError: There are bad images and `on_bad` is "stop"; or no image of a set, or more than `max_bad` of all, would be left out.
            Has one line for each bad image.
    """
    bad_of_sets = [find_bad_images(images) for images in sets]
    lines = [f"{printable(images.image_file(i))}: {bad[i]}" for images, bad in zip(sets, bad_of_sets, strict=True) for i in bad]
    if not lines:
        return list(sets)
    total = sum(map(len, sets))
    count = f"{len(lines)} of {total} images cannot be decoded"
    if on_bad == "stop":
        raise UserError(*lines, f"{count}; mend or remove them, or leave them out with {skip_option}")
    if len(lines) > max_bad * total:
        raise UserError(*lines, f"data.max_bad: {count}, more than the share of {max_bad:g} that may be left out; mend or remove them")
    for images, bad in zip(sets, bad_of_sets, strict=True):
        if len(bad) == len(images):
            raise UserError(*lines, f"{printable(images.root)}: none of {len(images)} images can be decoded")
    print(f"skipped: {count}: {'; '.join(lines[:3])}{'; ...' * (len(lines) > 3)}", file=sys.stderr)
    return [images.subset([i for i in range(len(images)) if i not in bad]) for images, bad in zip(sets, bad_of_sets, strict=True)]


def _decode_error(file: ImageFile) -> str | None:
    """Return why the file cannot be decoded, None if it can."""
    try:
        read_image(file)
    except BadImage as error:
        return error.reason
    return None


def _has_16_bits(file: ImageFile) -> bool:
    try:
        return has_16_bits(file.read_bytes())
    except (OSError, ValueError):  # it went away since it was decoded
        return False


def _may_read(path: str) -> bool:
    """Check the permission, whose removal changes neither size nor date."""
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
