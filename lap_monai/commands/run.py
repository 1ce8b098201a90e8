"""`python -m lap_monai run`: a bundle's configs with checked overrides."""

from __future__ import annotations

import argparse
import ast
import json
import os
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lap_monai.checks import UserError
from lap_monai.files import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "config",
        nargs="+",
        metavar="CONFIG|KEY=VALUE",
        help="config files, the base first, and overrides (epochs=20, optimizer#weight_decay=0.1), in any place",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder: sets output_dir and ckpt_dir, and keeps the merged config"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="data set folder: sets dataset_dir")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted training of the same run folder")
    parser.epilog = (
        "Example: python -m lap_monai run bundles/cholecseg8k_contrastive/configs/train.json "
        "bundles/cholecseg8k_contrastive/configs/endoscapes.json epochs=20 --data DIR --out runs/first"
    )


def take_more(args: argparse.Namespace, words: Sequence[str]) -> None:
    """Take the config files and overrides that stand behind an option.

    Raises:
        UserError: for an unknown option.
    """
    for word in words:
        if word.startswith("-"):
            name = word.lstrip("-").partition("=")[0] or "key"
            raise UserError(f"There is no option {word!r}; if an override is meant, write it as {name}=VALUE.")
    args.config += words


def main(args: argparse.Namespace) -> int:
    """Run the bundle and say where its results lie."""
    from lap_monai.experiments import root_cause, run_bundle

    files = [word for word in args.config if not _is_override(word)]
    if not files:
        raise UserError("No config file given; name the bundle's configs/train.json, for example.")
    overrides = dict(parse_override(word) for word in args.config if _is_override(word))
    name = Path(files[-1]).stem
    config_copy = args.out / f"config_{name}.json" if args.out else None
    try:
        run_bundle(files, _settings(args, files, overrides), config_copy, _workflow_type(files))
    except (UserError, OSError):
        raise
    except Exception as error:
        if args.out is None:
            raise
        cause = root_cause(error)
        raise UserError(
            f"{type(cause).__name__}: {cause} (not foreseen; {_keep_traceback(args.out / 'traceback.txt')})"
        ) from error
    if args.out:
        print(f"results: {args.out}")
    return 0


def parse_override(word: str) -> tuple[str, Any]:
    """Split `KEY=VALUE`; the value is JSON or a Python literal where it reads as one, text otherwise.

    Raises:
        UserError: if there is no key.
    """
    key, _, text = word.partition("=")
    if not key:
        raise UserError(f"The override {word!r} has no key; write KEY=VALUE.")
    for read in (json.loads, ast.literal_eval):  # `True` and `None` too, which the user of Python writes
        with suppress(ValueError, SyntaxError):
            return key, read(text)
    return key, text


def _is_override(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and os.sep not in key and not Path(word).is_file()


def _settings(args: argparse.Namespace, files: Sequence[str], overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides, and what the options stand for where no override says otherwise."""
    from lap_monai.experiments import merge_configs

    settings: dict[str, Any] = {"bundle_root": str(Path(files[0]).resolve().parents[1])}
    if args.out:
        places = {"output_dir": str(args.out.resolve()), "ckpt_dir": str(args.out.resolve() / "models")}
        has = merge_configs(files)
        settings |= {key: place for key, place in places.items() if key in has}  # an audit leaves no checkpoint
    if args.data:
        settings["dataset_dir"] = str(args.data.resolve())
    if args.resume:
        settings["resume"] = True
    return settings | overrides


def _workflow_type(files: Sequence[str]) -> str:
    return "inference" if Path(files[0]).stem == "inference" else "train"


def _keep_traceback(path: Path) -> str:
    try:
        write_text(path, traceback.format_exc())
    except (UserError, OSError):
        return "--debug shows where"
    return f"the traceback is in {str(path)!r}"
