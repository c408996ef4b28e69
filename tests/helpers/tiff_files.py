"""TIFF files written by hand, of kinds that Pillow does not write (TIFF 6.0, Adobe 1992)."""

import struct
import zlib

import numpy as np

MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, LAB = 0, 1, 2, 3, 5, 8


def tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    tile: int | None = None,
    rows_per_strip: int = 1000,
    deflate: bool = False,
    predictor: bool = False,
    colours: np.ndarray | None = None,
    extra: int | None = None,
) -> bytes:
    """Encode [H, W, C] of any type.

    Args:
        samples: The values.
        photometric: What they mean.
        order: "<" or ">".
        planar: One component after the other, rather than pixel after pixel.
        tile: Side of square tiles, a multiple of 16; None for strips.
        rows_per_strip: Rows of a strip.
        deflate: Compress with zlib.
        predictor: Store horizontal differences.
        colours: uint16 [3, 2 ** bits], of a palette.
        extra: Meaning of the last component: 0 unspecified, 1 or 2 alpha.
    """
    height, width, components = samples.shape
    samples = samples.astype(samples.dtype.newbyteorder(order))
    planes = [samples[:, :, [k]] for k in range(components)] if planar else [samples]
    blocks: list[np.ndarray] = []
    for plane in planes:
        if tile:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            blocks += [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
        else:
            blocks += [plane[y : y + rows_per_strip] for y in range(0, height, rows_per_strip)]
    encoded = [_encode(block, deflate, predictor) for block in blocks]
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]), 257: ("I", [height]), 258: ("H", [8 * samples.dtype.itemsize] * components),
        259: ("H", [8 if deflate else 1]), 262: ("H", [photometric]), 277: ("H", [components]), 284: ("H", [1 + planar]),
        339: ("H", [kind] * components),
    }  # fmt: skip
    if predictor:
        tags[317] = ("H", [2])
    if colours is not None:
        tags[320] = ("H", colours.reshape(-1).tolist())
    if extra is not None:
        tags[338] = ("H", [extra])
    if tile:
        tags |= {322: ("I", [tile]), 323: ("I", [tile])}
    else:
        tags[278] = ("I", [min(rows_per_strip, height)])
    offsets, counts = (324, 325) if tile else (273, 279)
    position, starts = 8, []
    for block in encoded:
        starts.append(position)
        position += len(block) + len(block) % 2
    tags |= {offsets: ("I", starts), counts: ("I", [len(block) for block in encoded])}
    content = b"".join(block + b"\0" * (len(block) % 2) for block in encoded)
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, position) + content + _directory(tags, order, position)


def _encode(block: np.ndarray, deflate: bool, predictor: bool) -> bytes:
    if predictor:
        native = block.astype(block.dtype.newbyteorder("="))
        block = np.concatenate([native[:, :1], native[:, 1:] - native[:, :-1]], axis=1).astype(block.dtype)
    return zlib.compress(block.tobytes()) if deflate else block.tobytes()


def _directory(tags: dict[int, tuple[str, list[int]]], order: str, position: int) -> bytes:
    entries, values = b"", b""
    values_start = position + 2 + 12 * len(tags) + 4
    for tag, (form, numbers) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(packed) > 4:
            packed, values = struct.pack(order + "I", values_start + len(values)), values + packed
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[form], len(numbers)) + packed.ljust(4, b"\0")
    return struct.pack(order + "H", len(tags)) + entries + bytes(4) + values
