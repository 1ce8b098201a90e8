"""Splits by video: read from files, applied to rows, or drawn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from lap_monai import keys
from lap_monai.checks import UserError, did_you_mean
from lap_monai.data.layout import Row
from lap_monai.data.ordering import drawn_order, natural_key
from lap_monai.data.split import PARTS, Split
from lap_monai.files import read_json, write_json

#: Split files of the checkout; `pip install -e .` leaves them beside the package.
SPLIT_DIRECTORY = Path(__file__).resolve().parents[2] / "configs" / "splits"


def load_split(name_or_path: str | Path) -> Split:
    """Read a split file.

    Args:
        name_or_path: a name in `configs/splits` of the checkout (`"zhang_1"`), or the path of any such JSON file:
            `{"name", "origin", "train": [videos], "val": [...], "test": [...]}`.

    Raises:
        UserError: if there is no such file, it is not of that form, or a video is in two parts.
    """
    path = Path(name_or_path)
    if path.suffix != ".json":
        path = SPLIT_DIRECTORY / f"{name_or_path}.json"
    if not path.is_file():
        known = [file.stem for file in SPLIT_DIRECTORY.glob("*.json")]
        hint = did_you_mean(str(name_or_path), known)
        raise UserError(f"There is no split {str(name_or_path)!r}.{hint} The path of a JSON file works too.")
    try:
        content = read_json(path)
    except ValueError as error:
        raise UserError(f"split file {str(path)!r} is not JSON: {error}.") from None
    if not isinstance(content, dict) or not all(_is_names(content.get(part)) for part in PARTS):
        raise UserError(f"split file {str(path)!r} must hold lists of video names called {', '.join(PARTS)}.")
    return Split(
        name=str(content.get("name", path.stem)),
        origin=str(content.get("origin", "")),
        **{part: tuple(content[part]) for part in PARTS},
    )


def write_split(path: str | Path, split: Split) -> Path:
    """Write a split file, whole or not at all, and return its path."""
    return write_json(path, split.to_json())


def apply_split(rows: Sequence[Row], split: Split | str | Path) -> dict[str, list[Row]]:
    """Sort rows into the parts of a split.

    Args:
        rows: datalist rows.
        split: a split, or what `load_split` takes.

    Returns:
        `{"train": rows, "val": rows, "test": rows}`, copies with `split` set to the part. Rows of videos that the split
        does not name are left out.

    Warns:
        UserWarning: naming videos of the split that the rows lack.

    Raises:
        UserError: if a part that the split fills has no rows.
    """
    if not isinstance(split, Split):
        split = load_split(split)
    absent = split.absent(row[keys.VIDEO] for row in rows)
    for part in PARTS:
        if absent[part] and len(absent[part]) == len(split.videos(part)):
            at_hand = sorted({row[keys.VIDEO] for row in rows}, key=natural_key)
            held = ", ".join(at_hand[:20]) + (" …" if len(at_hand) > 20 else "")
            raise UserError(
                f"split {split.name!r}: no video of part {part!r} ({', '.join(absent[part])}) is in the data set, "
                f"which holds {held}; get them or use another split."
            )
    missing = [video for part in PARTS for video in absent[part]]
    if missing:
        warnings.warn(f"split {split.name!r}: the data set lacks {', '.join(missing)}", stacklevel=2)
    parts: dict[str, list[Row]] = {part: [] for part in PARTS}
    for row in rows:
        of_row = split.part_of(row[keys.VIDEO])
        if of_row is not None:
            parts[of_row].append({**row, "split": of_row})
    return parts


def folder_split(rows: Sequence[Row], name: str = "folders") -> Split:
    """Return the split that the data set's own folders make, from the `split` of its rows.

    Raises:
        UserError: if rows have no `split`, or a video lies in two folders.
    """
    if not rows or any(row.get("split") not in PARTS for row in rows):
        raise UserError("This data set's folders make no split; name a split or draw one with split_by_video.")
    videos = {part: {row[keys.VIDEO] for row in rows if row["split"] == part} for part in PARTS}
    return _split(name, "the data set's own folders", videos)


def kfold_by_video(rows: Sequence[Row], k: int, seed: int) -> list[Split]:
    """Draw k splits in which each video is tested once and validated once.

    The videos are dealt into k folds of nearly equal count. Split i tests fold i, validates fold i + 1 and trains on
    the others, so that the fold that chooses the model never is the one reported.

    Raises:
        UserError: if k is below 3 or above the number of videos.
    """
    videos = drawn_order((row[keys.VIDEO] for row in rows), "kfold", seed)
    if not 3 <= k <= len(videos):
        raise UserError(f"k-fold needs 3 <= k <= {len(videos)} (the number of videos); k is {k}.")
    folds = [set(videos[i::k]) for i in range(k)]
    origin = f"kfold_by_video(k={k}, seed={seed}) over {len(videos)} videos"
    splits = []
    for i in range(k):
        test, val = folds[i], folds[(i + 1) % k]
        parts = {"train": set(videos) - test - val, "val": val, "test": test}
        splits.append(_split(f"kfold{k}_seed{seed}_{i + 1}", origin, parts))
    return splits


def split_by_video(rows: Sequence[Row], fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0) -> Split:
    """Draw a split of any data set.

    Args:
        rows: datalist rows.
        fractions: shares of the videos for train, val and test; each share above 0 gets at least one video.
        seed: which draw.

    Raises:
        UserError: if the fractions are not three shares with sum 1, or there are fewer videos than parts.
    """
    if len(fractions) != len(PARTS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f"fractions {tuple(fractions)} must be three shares (train, val, test) that sum to 1.")
    videos = drawn_order((row[keys.VIDEO] for row in rows), "split", seed)
    counts = _shares(len(videos), fractions)
    origin = f"split_by_video(fractions={tuple(fractions)}, seed={seed}) over {len(videos)} videos"
    starts = [0, counts[0], counts[0] + counts[1]]
    parts = {part: set(videos[start : start + n]) for part, start, n in zip(PARTS, starts, counts, strict=True)}
    return _split(f"drawn_seed{seed}", origin, parts)


def _shares(total: int, fractions: Sequence[float]) -> list[int]:
    """Deal `total` into whole numbers: one for each fraction above 0, each further one to the fraction owed most."""
    counts = [int(fraction > 0) for fraction in fractions]
    if sum(counts) > total:
        raise UserError(f"{total} videos cannot fill {sum(counts)} parts; a split by patient needs one video a part.")
    while sum(counts) < total:
        owed = [fraction * total - count for fraction, count in zip(fractions, counts, strict=True)]
        counts[owed.index(max(owed))] += 1
    return counts


def _split(name: str, origin: str, parts: dict[str, set[str]]) -> Split:
    return Split(name, origin, **{part: tuple(sorted(parts[part], key=natural_key)) for part in PARTS})


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
