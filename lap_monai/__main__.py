"""The command line: `python -m lap_monai COMMAND …`. Each command is a module of `lap_monai.commands`."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lap_monai import __version__
from lap_monai.checks import UserError

#: command → its one-line help. The module of the same name is imported only when the command is used.
COMMANDS = {
    "demo": "train, evaluate and draw a model on phantom data, start to finish",
    "phantom": "write a synthetic surgical data set in the layout of a real one",
    "check": "validate a data set: counts, defects, leaks",
    "run": "run a bundle's configs with checked overrides and one-line errors",
    "stream": "take methods through the steps of a class-incremental stream, resumable, and compare them",
    "table": "run every cell of a table, resumable, and compare its methods",
    "predict": "segment frames, a folder, a video or a live capture with a trained bundle",
    "export": "write a bundle's network for other runtimes, compared with the eager one",
    "package": "pack a bundle into a model-zoo archive that needs no lap_monai",
}


#: Characters of an error that are shown: it may quote what a hostile file holds.
_LONGEST = 2000


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 only on success."""
    argv = sys.argv[1:] if argv is None else argv
    debug = "--debug" in argv
    try:
        args = _parse(argv)
        with _plain_warnings(not debug):
            return int(args.main(args) or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (UserError, OSError) as error:
        if debug:
            raise
        text = " ".join(str(error).split())
        print(f"error: {text if len(text) <= _LONGEST else f'{text[:_LONGEST]} …'}", file=sys.stderr)
        return 1


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lap_monai", description=importlib.import_module("lap_monai").__doc__
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in argv if word in COMMANDS), None)
    take_more = None
    for name, help_text in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"lap_monai.commands.{name}")
            module.add_arguments(sub)
            sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
            sub.set_defaults(main=module.main)
            take_more = getattr(module, "take_more", None)
    # argparse hands positional words to a command in one piece only; what stands behind an option is left over.
    args, more = parser.parse_known_args(argv)
    if more and take_more is None:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if more and take_more is not None:
        take_more(args, more)
    return args


@contextmanager
def _plain_warnings(wanted: bool) -> Iterator[None]:
    """Show a warning as one line, without the place in the code, which tells a user nothing."""
    usual = warnings.formatwarning
    if wanted:
        # Where pydicom is installed, MONAI says twice in every process that a decoder of NVIDIA's is not.
        warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
        logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
        warnings.formatwarning = lambda message, *_, **__: f"warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


if __name__ == "__main__":
    sys.exit(main())
