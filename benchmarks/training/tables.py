"""Tables of the benchmarks of training, from their result files."""

from collections.abc import Mapping, Sequence
from typing import Any

RATIO_HEADS = {"report": "times the report's loop", "timm": "times timm's best", "timm-fast": "times timm's best, fast freezing"}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)])


def step_tables(result: Mapping[str, Any]) -> str:
    """`train_step`'s: one table a case, and how the cost grows."""
    about = "The report's loop freezes as the faithful recipe does; timm's best is the fastest of its loops here."
    parts = [legend(result), about]
    for block in result["cases"]:
        parts += [f"**{case_name(block['case'])}**", loop_table(block), *remarks(block)]
    if "growth" in result:
        parts += growth_tables(result["growth"])
    return "\n\n".join(part for part in parts if part)


def legend(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    load = machine["load_before"]
    busy = f", load average before {load}: not a quiet machine" if load > 1 else ""
    unfinished = "" if result["complete"] else " The run was cut off; what it had measured stands here."
    return (
        f"{result['hardware']}, {machine['started'][:10]}, {machine['threads']} threads, torch {machine['packages']['torch']}{busy}. "
        f"Medians of rounds (quartiles), in which everything takes its turn; ratios are medians of those within a round.{unfinished}"
    )


def loop_table(block: Mapping[str, Any], limits: Mapping[str, float] | None = None) -> str:
    """A row a loop that was timed, fastest first. `limits`: images/s of the roofline by freezing, for a column of shares."""
    rows = block["results"]
    names = [name for name in RATIO_HEADS if any(name in row["ratios"] for row in rows.values())]
    heads = ["loop", "images/s", *(RATIO_HEADS[name] for name in names)]
    heads += ["share of the roofline"] * bool(limits) + [memory_head(block), "first steps, s"]
    lines = []
    for key in sorted(rows, key=lambda key: -rows[key]["median"]):
        row = rows[key]
        low, high = row["quartiles"]
        cells = [block["labels"][key], f"{number(row['median'])} ({number(low)}-{number(high)})"]
        cells += [f"{row['ratios'][name]['ratio']:.2f}" if name in row["ratios"] else "" for name in names]
        if limits:
            cells.append(f"{row['median'] / limits['fast' if 'fast' in key else 'faithful']:.0%}")
        memory = block["memory_mib"].get(key, {})
        cells.append(" / ".join(f"{value:,.0f}" for value in memory.values()))
        seconds = block.get("warmup_seconds", {}).get(key)
        lines.append([*cells, "" if seconds is None else f"{seconds:.1f}"])
    return table(heads, lines)


def memory_head(block: Mapping[str, Any]) -> str:
    names: Mapping[str, float] = next(iter(block["memory_mib"].values()), {})
    return "peak memory, MiB" + (f" ({' / '.join(names)})" if len(names) > 1 else "")


def remarks(block: Mapping[str, Any]) -> list[str]:
    """What is missing and why, and what was promised."""
    lines = [f"- {block['labels'][key]}: not measured, {why}" for key, why in block["left_out"].items()]
    lines += [f"- {block['labels'][key]}: failed, {why}" for key, why in block["failed"].items()]
    lines += [f"- {freezing}: {share:.0%} of the roofline" for freezing, share in block.get("roofline_share", {}).items()]
    lines += target_lines(block.get("targets", []))
    return ["\n".join(lines)] if lines else []


def target_lines(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for target in targets:
        answer = "yes" if target["met"] else "missed"
        if "roofline_share" in target:
            answer = f"missed, at {target['roofline_share']:.0%} of the roofline"
        lines.append(f"- {target['claim']}: {target['measured']:.2f} (at least {target['needed']:g}: {answer})")
    return lines


def growth_tables(growth: Mapping[str, Any]) -> list[str]:
    parts = []
    heads = {"batch": "images/s by batch size", "size": "images/s by image size, pixels", "model": "images/s by model"}
    for name, head in heads.items():
        blocks = growth.get(name, [])
        if not blocks:
            continue
        keys = [key for key in blocks[0]["labels"] if any(key in block["results"] for block in blocks)]
        rows = []
        for key in keys:
            found = [block["results"].get(key) for block in blocks]
            rows.append([blocks[0]["labels"][key], *(number(row["median"]) if row else "" for row in found)])
        parts.append(table([head, *(str(block["case"][name]) for block in blocks)], rows))
    if rows := growth.get("data_set", []):
        names = {"open": "every image read once", "again": "the same, known as good", "first_batch": "then until the first batch"}
        lines = [[label, *(f"{row['seconds'][key]:.2f}" for row in rows)] for key, label in names.items()]
        parts.append(table(["seconds by images in the data set", *(f"{row['images']:,}" for row in rows)], lines))
    return parts


def inference_tables(result: Mapping[str, Any]) -> str:
    """`inference`'s: images/s and memory by batch size."""
    images = result["settings"]["images"]
    about = f"An evaluation of {images} images a turn (at least one batch), with loss and top-1; timm's best is the fastest of its ways."
    precisions = dict.fromkeys(block["case"].get("amp") for block in result["sizes"])
    parts = [inference_precision_tables([block for block in result["sizes"] if block["case"].get("amp") == amp]) for amp in precisions]
    missing = {line for block in result["sizes"] for text in remarks(block) for line in text.splitlines()}
    rest = [*sorted(missing), *target_lines(result.get("targets", []))]
    return "\n\n".join([legend(result), about, *parts, "\n".join(rest)])


def inference_precision_tables(blocks: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of one model in one precision: images/s, ratios, seconds to get ready and memory by batch size."""
    blocks = [block for block in blocks if block["results"]]
    sizes = [str(block["case"]["batch"]) for block in blocks]
    rates, ratios, ready, memory = [], [], [], []
    for key, label in (blocks[0]["labels"] if blocks else {}).items():
        rows = [block["results"].get(key) for block in blocks]
        rates.append([label, *(number(row["median"]) if row else "" for row in rows)])
        ratios.append([label, *(f"{row['ratios']['timm']['ratio']:.2f}" if row and "timm" in row["ratios"] else "" for row in rows)])
        seconds = [block.get("ready_seconds", {}).get(key) for block in blocks]
        ready.append([label, *("" if each is None else f"{each:.2f}" for each in seconds)])
        peaks = [block["memory_mib"].get(key) for block in blocks]
        memory.append([label, *(" / ".join(f"{value:,.0f}" for value in peak.values()) if peak else "" for peak in peaks)])
    heads = {"images/s by batch size": rates, "times timm's best": ratios, "seconds until ready": ready}
    heads |= {memory_head(blocks[0]): memory} if blocks else {}
    name = f"**{precision_case_name(blocks[0]['case'])}**" if blocks else ""
    tables = [table([head, *sizes], rows) for head, rows in heads.items() if any(cell for row in rows for cell in row[1:])]
    return "\n\n".join([name, *tables])


def precision_case_name(case: Mapping[str, Any]) -> str:
    """Return model, image size and precision, of a case of any batch size."""
    return f"{case['model']}, {case['size']} px" + (", FP32" if case.get("amp") == "off" else "")


def epoch_table(result: Mapping[str, Any]) -> str:
    """`epoch`'s: a row a loop, the step alone beside it."""
    block = result["epoch"]
    rows = block["results"]
    names = [name for name in RATIO_HEADS if any(name in row["ratios"] for row in rows.values())]
    heads = ["epoch", "images/s", "of the step's own rate", *(RATIO_HEADS[name] for name in names), "waiting for data", "the report's run"]
    lines = []
    for key, row in rows.items():
        low, high = row["quartiles"]
        cells = [block["labels"][key], f"{number(row['median'])} ({number(low)}-{number(high)})"]
        cells.append(f"{row['of_step']:.0%}" if "of_step" in row else "")
        cells += [f"{row['ratios'][name]['ratio']:.2f}" if name in row["ratios"] else "" for name in names]
        cells.append(f"{row['wait']:.1%}" if "wait" in row else "")
        lines.append([*cells, f"{row['report_minutes']:,.0f} min" if "report_minutes" in row else ""])
    about = (
        f"Epochs of {block['images']} {block['pictures']}, {block['workers']} loader processes each. The report's run: 50 epochs of 20,700 "
        "images at this rate, validation not counted."
    )
    parts = [legend(result), about, f"**{case_name(block['case'])}**", table(heads, lines)]
    if script := block.get("timm_script"):
        rates = "; ".join(f"{flags}: {rate:.0f}" for flags, rate in script["flags"].items())
        ours = "; ".join(f"{rate:.0f}" for rate in script["hw1_unfrozen"])
        parts.append(
            f"timm's own train.py ({script['version'] or 'installed timm'}), which trains all layers, images/s of its last epoch: {rates}. "
            f"hw1 with nothing frozen, between its runs: {ours}"
            + (f"; {script['ratio']:.2f} times its best." if "ratio" in script else ".")
        )
    return "\n\n".join([*parts, *remarks(block)])


def check_table(result: Mapping[str, Any]) -> str:
    """`train_step --check`'s."""
    parts = []
    for block in result["checks"]:
        rows = []
        for key, found in block["gradients"].items():
            curve = block["curves"].get("differences", {}).get(key)
            same = block["same_bits"].get(key)
            cells = [f"`{key}`"]
            cells += ["; ".join(f"{part['images']}: {part[name]:.1e}" for part in found) for name in ("overall", "worst")]
            cells.append("; ".join(f"{part['plain']['overall']:.1e}" for part in found))
            cells.append(f"{curve['mean']:.4f} (limit {curve['limit']:.4f})" if curve else "")
            cells.append("" if same is None else "yes" if same else "NO")
            cells.append("yes" if all(part["met"] for part in found) and (curve is None or curve["met"]) and same is not False else "NO")
            rows.append(cells)
        heads = ["variant", "error of the gradient, by batch", "of the worst parameter", "plain loop's, same precision"]
        heads += ["distance of the loss curve", "same bits twice", "right"]
        parts += [f"**{case_name(block['case'])}**", table(heads, rows)]
    return "\n\n".join(parts)


def case_name(case: Mapping[str, Any]) -> str:
    return f"{case['model']}, {case['size']} px, batch {case['batch']}" + (", FP32" if case.get("amp") == "off" else "")


def number(value: float) -> str:
    """Images/s: whole ones, below 10 with a digit more, below 1 with two."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
