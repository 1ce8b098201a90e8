"""`results.md`: a table in the paper's layout, ours beside the published values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Spread → what it is, in the order of preference for the one that stands behind ±.
SPREADS = {
    "sd_over_subsets": "standard deviation over subsets (draws of the masks)",
    "sd_over_folds": "standard deviation over folds (splits)",
    "sd_over_seeds": "standard deviation over seeds, all else equal",
}

#: A value that no cell gave.
MISSING = "missing"


def render_markdown(results: Mapping[str, Any]) -> str:
    """Return the Markdown of what a table's `results.json` holds."""
    parts = (_head, _scores, _spreads, _comparisons, _classes, _warned, _not_done)
    return "\n".join(line for part in parts for line in part(results)).rstrip() + "\n"


def main_spread(results: Mapping[str, Any]) -> str | None:
    """Return the name of the spread that stands behind ±: the first that the table has."""
    for name in SPREADS:
        if any(entry["miou"][name] is not None for entry in results["summary"]):
            return name
    return None


def share(budget: float) -> str:
    """Return a budget in percent."""
    return f"{100 * budget:g} %"


def _head(results: Mapping[str, Any]) -> Iterator[str]:
    evaluated = results["evaluated"]
    done, left = len(results["rows"]), len(results["not_done"])
    yield f"# {results['table']}"
    yield ""
    if results["description"]:
        yield results["description"]
        yield ""
    yield (
        f"Label space `{results['label_space']}`, scored on {', '.join(evaluated['splits'])}/{evaluated['part']}; "
        f"budgets are shares of the {results['unit']}s; {done} of {done + left} cells done."
    )
    yield ""


def _scores(results: Mapping[str, Any]) -> Iterator[str]:
    spread, classes, published = main_spread(results), results["classes"], results["published"]
    yield "## IoU by class"
    yield ""
    yield markdown_row("Method", "Masks", *classes, "Mean", "Cells")
    yield markdown_row(*("---" for _ in range(len(classes) + 4)))
    for method in _methods(results):
        label = results["labels"].get(method, method)
        for budget in _budgets(results, method):
            entry = _entry(results["summary"], method, budget)
            if entry is not None:
                ours = [_mean(entry["iou"][name], entry, spread) for name in classes]
                done = f"{entry['n_cells']}/{results['repetitions']}"
                yield markdown_row(label, share(budget), *ours, _mean(entry["miou"], entry, spread), done)
            theirs = _entry(published["rows"], method, budget)
            if theirs is not None:
                yield markdown_row(f"{label} (published)", share(budget), *_published(theirs["iou"], classes), "")
    yield ""
    means = f"±: {SPREADS[spread]}" if spread else "one repetition each, so no spread"
    source = f" Published: {published['source']}." if published["rows"] else ""
    yield f"Pooled IoU, mean over cells; {means}. – : no frame of the evaluated part shows the class.{source}"
    yield ""


def _spreads(results: Mapping[str, Any]) -> Iterator[str]:
    known = [name for name in SPREADS if any(entry["miou"][name] is not None for entry in results["summary"])]
    intervals = any(entry["per_patient"]["interval"] for entry in results["summary"])
    if len(known) < 2 and not intervals:
        return
    yield "## Mean IoU: spreads and patients"
    yield ""
    yield markdown_row("Method", "Masks", "Mean", *known, "Mean over patients", "95 % interval over patients")
    yield markdown_row(*("---" for _ in range(len(known) + 5)))
    for entry in results["summary"]:
        if entry["n_cells"]:
            patients = entry["per_patient"]
            yield markdown_row(
                results["labels"][entry["method"]],
                share(entry["budget"]),
                number(entry["miou"]["mean"]),
                *(number(entry["miou"][name]) for name in known),
                number(patients["miou"]),
                interval(patients["interval"]) or patients["reason"],
            )
    yield ""


def _comparisons(results: Mapping[str, Any]) -> Iterator[str]:
    if not results["comparisons"]:
        return
    yield "## Comparisons of the mean IoU, paired by patient"
    yield ""
    yield markdown_row(
        "Method", "than", "Masks", "Difference", "95 %, patients", "95 %, patients and draws", "Draws", "p", "Verdict"
    )
    yield markdown_row(*("---" for _ in range(9)))
    for found in results["comparisons"]:
        yield markdown_row(
            results["labels"][found["method"]],
            results["labels"][found["than"]],
            share(found["budget"]),
            number(found["difference"], signed=True),
            interval(found["interval"]) or found["reasons"].get("test", ""),
            interval(found["interval_with_draws"]) or found["reasons"].get("interval_with_draws", ""),
            f"{found['draws_better']} of {found['n_draws']} higher",
            "–" if found["p"] is None else f"{found['p']:.3g}",
            f"**{found['verdict']}**" if found["verdict"] != "not decided" else found["verdict"],
        )
    tested = sum(found["p"] is not None for found in results["comparisons"])
    yield ""
    yield (
        "Difference: mean over patients of the patient's mean IoU, each averaged over draws and seeds first. "
        "p: sign-flip permutation test over patients. Decided: p < 0.05 and neither interval contains 0, which takes "
        "6 patients and 5 draws."
        + (f" Of {tested} tests, chance alone would decide up to {0.05 * tested:.1f}." if tested else "")
    )
    yield ""


def _classes(results: Mapping[str, Any]) -> Iterator[str]:
    decided = [
        (found, name, entry)
        for found in results["comparisons"]
        for name, entry in found["classes"].items()
        if entry["verdict"] != "not decided"
    ]
    if not any(found["p"] is not None for found in results["comparisons"]):
        return
    yield "## Classes in which a method is decided to be better or worse (Holm-corrected over classes)"
    yield ""
    if not decided:
        yield "None."
    for found, name, entry in decided:
        yield (
            f"- {name}, {share(found['budget'])}: {results['labels'][found['method']]} **{entry['verdict']}** than "
            f"{results['labels'][found['than']]} by {number(entry['difference'], signed=True)} "
            f"({interval(entry['interval'])}, p {entry['p_holm']:.3g}, {entry['n_patients']} patients)"
        )
    yield ""


def _warned(results: Mapping[str, Any]) -> Iterator[str]:
    by_warning: dict[str, list[str]] = {}
    for row in results["rows"]:
        if row["warnings"]:
            by_warning.setdefault(row["warnings"], []).append(cell_name(row))
    if by_warning:
        yield "## Cells to be read with care"
        yield ""
        for warning, names in by_warning.items():
            yield f"- {warning}: {', '.join(names)}"
        yield ""


def _not_done(results: Mapping[str, Any]) -> Iterator[str]:
    if results["not_done"]:
        yield "## Cells without results"
        yield ""
        for cell in results["not_done"]:
            reason = f": {cell['reason']}" if cell["reason"] else ""
            yield f"- {cell_name(cell)} {cell['status']}{reason}"
        yield ""


def cell_name(row: Mapping[str, Any]) -> str:
    """Return a row's cell, in words."""
    fold = "" if row["fold"] is None else f", {row['fold']}"
    return f"{row['method']} {share(row['budget'])} subset {row['subset']} seed {row['seed']}{fold}"


def number(value: float | None, signed: bool = False) -> str:
    """Return a score with three digits, – for none."""
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(pair: Sequence[float] | None) -> str:
    """Return an interval, empty if there is none."""
    return (
        ""
        if pair is None
        else f"{pair[0]:+.3f} to {pair[1]:+.3f}"
        if pair[0] < 0
        else f"{pair[0]:.3f} to {pair[1]:.3f}"
    )


def markdown_row(*cells: str) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _mean(found: Mapping[str, Any], entry: Mapping[str, Any], spread: str | None) -> str:
    if not entry["n_cells"]:
        return MISSING
    sd = found[spread] if spread else None
    return number(found["mean"]) + (f" ± {sd:.3f}" if sd is not None else "")


def _published(iou: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """The classes' published values and, where all are there, their mean."""
    values = [iou.get(name) for name in classes]
    cells = [
        "" if value is None else number(value[0]) + (f" ± {value[1]:.3f}" if value[1] is not None else "")
        for value in values
    ]
    known = [value[0] for value in values if value is not None]
    return [*cells, number(sum(known) / len(known)) if len(known) == len(classes) else ""]


def _methods(results: Mapping[str, Any]) -> list[str]:
    published = [entry["method"] for entry in results["published"]["rows"]]
    return list(dict.fromkeys([*results["labels"], *published]))


def _budgets(results: Mapping[str, Any], method: str) -> list[float]:
    published = [entry["budget"] for entry in results["published"]["rows"] if entry["method"] == method]
    return sorted({*results["budgets"], *published})


def _entry(entries: Sequence[Mapping[str, Any]], method: str, budget: float) -> Mapping[str, Any] | None:
    return next((entry for entry in entries if (entry["method"], entry["budget"]) == (method, budget)), None)
