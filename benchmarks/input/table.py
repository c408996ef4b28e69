"""Table of `benchmarks.input_pipeline`, from its result file."""

from typing import Any

SOURCES = {"JPEG": "JPEG files", "decoded": "decoded once", "disk": "disk cache"}


def to_markdown(result: dict[str, Any]) -> str:
    """One row a pipeline; below it, what was measured on what."""
    larger, loaders = result["larger_files"], result["loaders"][-1]
    heads = ["pipeline", "from", "images/s, one core", "times the report's"]
    heads += [f"images/s, {_size(block)}" for block in larger]
    heads += [f"images/s, {loaders['workers']} workers", "memory, MiB"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for key, variant in result["variants"].items():
        row = result["one_core"]["results"][key]
        cells = [variant["label"], SOURCES[variant["source"]], f"{_rate(row)} ({_quartiles(row)})", f"{row['ratio']:.2f}"]
        cells += [_rate(block["results"].get(key)) for block in larger]
        cells += [_rate(loaders["results"].get(key)), f"{result['memory_mib'][key]:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_legend(result), "", *_output_sizes(result), "", *_targets(result)])


def _legend(result: dict[str, Any]) -> list[str]:
    one_core = result["one_core"]
    count = len(next(iter(one_core["results"].values()))["images_per_second"])
    memory = min(result["settings"].get("memory_images", result["settings"].get("memory_pictures")), one_core["pictures"]["count"])
    files = [_describe(block["pictures"]) for block in (one_core, *result["larger_files"])]
    load = result["machine"]["load_before"]
    load = f", load average before {load}: not a quiet machine" if load > 1 else ""
    return [
        f"{result['hardware']}, {result['machine']['started'][:10]}, one thread a process{load}. "
        f"The report's policy at {one_core['size']} px, to uint8. "
        f"Medians of {count} rounds (quartiles), in which the pipelines take turns over the same files: {'; '.join(files)}. "
        "The report's pipeline is torchvision on Pillow from the same JPEG files; validation is compared with its validation. "
        f"Memory: how far {memory} images raise the peak of a process, images held and files mapped included.",
    ]


def _output_sizes(result: dict[str, Any]) -> list[str]:
    blocks = result["output_size"]
    lines = [f"| images/s, one core, from JPEG files | {' | '.join(str(block['size']) + ' px' for block in blocks)} |"]
    lines.append(f"|{'---|' * (len(blocks) + 1)}")
    for key in blocks[0]["results"]:
        variant = result["variants"][key]
        label = variant["label"] if variant["source"] == "JPEG" else f"{variant['label']}, {SOURCES[variant['source']]}"
        lines.append(f"| {label} | {' | '.join(_rate(block['results'][key]) for block in blocks)} |")
    return lines


def _targets(result: dict[str, Any]) -> list[str]:
    return [
        f"- {target['claim']}: {target['measured']:.2f} (at least {target['needed']:g}: {'yes' if target['met'] else 'missed'})"
        for target in result["targets"]
    ]


def _describe(images: dict[str, Any]) -> str:
    size = f"{images['width']} x {images['height']} pixels, {images['kilobytes']:.0f} kB"
    return f"{images['count']} {images['origin']} (median {size})"


def _size(block: dict[str, Any]) -> str:
    return f"{block['pictures']['width']} x {block['pictures']['height']} files"


def _rate(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['median']:.0f}"


def _quartiles(row: dict[str, Any]) -> str:
    low, high = row["quartiles"]
    return f"{low:.0f}-{high:.0f}"
