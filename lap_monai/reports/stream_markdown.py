"""`results.md` of a stream: what each method knows at its end, what it forgot, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lap_monai.reports.table_markdown import interval, markdown_row, number

#: Column → measure of a method's summary, in the order of the tables.
MEASURES = {
    "All": "all",
    "Base": "base",
    "New": "new",
    "Harmonic mean": "harmonic_mean",
    "All with background": "all_with_background",
    "Background": "background",
    "Forgetting from best": "forgetting_from_best",
    "Forgetting from first": "forgetting_from_first",
    "Backward transfer": "backward_transfer",
    "Plasticity": "plasticity",
}

#: Kind of score → what it is.
KINDS = {
    "iou": "IoU, pooled over the set",
    "dice": "Dice, pooled over the set",
    "iou_per_image": "IoU, averaged over images",
    "dice_per_image": "Dice, averaged over images",
}


def render_stream_markdown(results: Mapping[str, Any]) -> str:
    """Return the Markdown of what a stream's `results.json` holds."""
    parts = (_head, _measures, _matrices, _comparisons, _cost, _notes)
    return "\n".join(line for part in parts for line in part(results)).rstrip() + "\n"


def mean_and_sd(found: Mapping[str, Any] | None, signed: bool = False) -> str:
    """Return a mean, with ± its standard deviation where there is one."""
    if found is None:
        return "–"
    return number(found["mean"], signed) + (f" ± {found['sd']:.3f}" if found["sd"] is not None else "")


def byte_size(count: float) -> str:
    """Return a number of bytes in the unit in which it is readable."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {results['stream']}"
    yield ""
    if results["description"]:
        yield results["description"]
        yield ""
    evaluated = results["evaluated"]
    yield (
        f"Label space `{results['label_space']}`, protocol {results['protocol']}, patients {results['patients']}; "
        f"scored on {evaluated['split']}/{evaluated['part']} after every step; {len(results['seeds'])} seed(s)."
    )
    yield ""
    yield markdown_row("Step", "New classes", "Training frames", "Patients")
    yield markdown_row(*("---" for _ in range(4)))
    for step in results["steps"]:
        yield markdown_row(str(step["step"]), ", ".join(step["new"]), str(step["frames"]), str(step["patients"]))
    yield ""


def _measures(results: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("iou", "iou_per_image"):
        yield f"## After the last step: {KINDS[kind]}"
        yield ""
        yield markdown_row("Method", *MEASURES, "Seeds")
        yield markdown_row(*("---" for _ in range(len(MEASURES) + 2)))
        for entry in results["summary"]:
            found = entry[kind]["measures"]
            values = [mean_and_sd(found.get(name)) for name in MEASURES.values()]
            yield markdown_row(
                results["labels"][entry["method"]], *values, f"{entry['n_seeds']}/{len(results['seeds'])}"
            )
        yield ""
    yield (
        "Base: the classes of step 0; new: all later ones; without the background unless it is named. Forgetting: of "
        "the classes known before the last step, best earlier score, or first score, minus the last. Backward "
        "transfer: mean change of earlier steps. Plasticity: a new class's first score minus that of joint training. "
        "±: standard deviation over seeds."
    )
    yield ""


def _matrices(results: Mapping[str, Any]) -> Iterator[str]:
    classes = results["classes"]
    yield "## IoU of every class after every step"
    yield ""
    yield markdown_row("Method", "Step", *classes)
    yield markdown_row(*("---" for _ in range(len(classes) + 2)))
    for entry in results["summary"]:
        for step, line in enumerate(entry["iou"]["matrix"]):
            if any(value is not None for value in line):
                yield markdown_row(results["labels"][entry["method"]], str(step), *(number(value) for value in line))
    yield ""
    yield "Mean over seeds, pooled over the set. –: not learnt yet, or absent from the evaluated set."
    yield ""


def _comparisons(results: Mapping[str, Any]) -> Iterator[str]:
    if not results["comparisons"]:
        return
    yield "## Comparisons after the last step, paired by patient"
    yield ""
    yield markdown_row(
        "Method", "than", "Difference", "95 %, patients", "95 %, patients and seeds", "Seeds", "p", "Verdict"
    )
    yield markdown_row(*("---" for _ in range(8)))
    for found in results["comparisons"]:
        yield markdown_row(
            results["labels"][found["method"]],
            results["labels"][found["than"]],
            number(found["difference"], signed=True),
            interval(found["interval"]) or found["reasons"].get("test", ""),
            interval(found["interval_with_draws"]) or found["reasons"].get("interval_with_draws", ""),
            f"{found['draws_better']} of {found['n_draws']} higher",
            "–" if found["p"] is None else f"{found['p']:.3g}",
            f"**{found['verdict']}**" if found["verdict"] != "not decided" else found["verdict"],
        )
    yield ""
    yield (
        "Difference: mean over patients of the patient's mean IoU without the background, averaged over seeds first. "
        "p: sign-flip permutation test over patients. Decided: p < 0.05 and neither interval contains 0, which takes 5 "
        "patients and 5 seeds."
    )
    yield ""


def _cost(results: Mapping[str, Any]) -> Iterator[str]:
    yield "## Cost of a run through the stream"
    yield ""
    yield markdown_row("Method", "Real images kept", "Synthetic images kept", "Kept beside the network", "Minutes")
    yield markdown_row(*("---" for _ in range(5)))
    for entry in results["summary"]:
        cost = entry["cost"]
        if cost is not None:
            yield markdown_row(
                results["labels"][entry["method"]],
                f"{cost['real_images']:g}",
                f"{cost['synthetic_images']:g}",
                byte_size(cost["bytes"]),
                f"{cost['seconds'] / 60:.1f}",
            )
    yield ""
    yield (
        "Mean over seeds of what is on disk for later steps when the last one begins, and of the time of all "
        "processes, those shared with other methods included. Joint training sees all images at once and keeps nothing."
    )
    yield ""


def _notes(results: Mapping[str, Any]) -> Iterator[str]:
    notes = [*results["findings"], *_warnings(results["rows"])]
    if notes:
        yield "## To be read with care"
        yield ""
        yield from (f"- {note}" for note in notes)
        yield ""
    if results["not_done"]:
        yield "## Without results"
        yield ""
        for row in results["not_done"]:
            yield f"- {step_name(row)}: {row['status']}{', ' + row['reason'] if row['reason'] else ''}"
        yield ""


def _warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    by_warning: dict[str, list[str]] = {}
    for row in rows:
        if row["warnings"]:
            by_warning.setdefault(row["warnings"], []).append(step_name(row))
    return [f"{warning}: {', '.join(names)}" for warning, names in by_warning.items()]


def step_name(row: Mapping[str, Any]) -> str:
    """Return which method, step and seed a row is about, in words."""
    return f"{row['method']} step {row['step']} seed {row['seed']}"
