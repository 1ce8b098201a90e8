"""Run a bundle's configs as `python -m monai.bundle run` does, with the checks and the paper trail that one lacks.

MONAI takes a misspelled override in silence, reports a user's mistake as a page of traceback, and forgets the config it
ran with. Here an unknown key is refused, a `UserError` comes out as itself, and the run folder keeps the merged config.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from itertools import takewhile
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.bundle import ConfigWorkflow, ReferenceResolver

from lap_monai.checks import UserError
from lap_monai.data import read_frame
from lap_monai.experiments.config_merge import merge_configs
from lap_monai.experiments.config_targets import check_targets, components
from lap_monai.files import write_json
from lap_monai.handlers import read_checkpoint

#: How MONAI's own errors begin that say no more than where another one arose.
_COMPONENT = re.compile(r"Failed to instantiate component '([^']+)'")
_EXPRESSION = re.compile(r"Failed to evaluate ConfigExpression:\s*(.+)", re.DOTALL)


def run_bundle(
    files: Sequence[str | Path],
    overrides: Mapping[str, Any] | None = None,
    config_copy: str | Path | None = None,
    workflow_type: str = "train",
) -> ConfigWorkflow:
    """Initialise, build, run and finalise a bundle.

    Args:
        files: config files, the base first. `metadata.json` and `logging.conf` beside the base are used.
        overrides: config id → value.
        config_copy: where the merged config is written once all it describes is built, before anything runs; None
            writes none. So a config that cannot work never replaces the one of an earlier run.
        workflow_type: `"train"` or `"inference"`.

    Returns:
        The workflow after its run; its `parser` holds every object the config built.

    Raises:
        UserError: whatever a user can mend, freed from the errors that MONAI's parser wraps around it. While the config
            is being built, any error counts as such.
    """
    config = merge_configs(files, overrides)
    check_targets(config)
    workflow = _workflow(files, config, workflow_type)
    with _user_errors_unlogged():
        _prepare(workflow)
    if config_copy is not None:
        write_json(config_copy, config)
    with _user_errors_unlogged():  # anew: what was built has brought handlers of its own
        try:
            workflow.run()
        except Exception as error:
            _raise_lost_worker(error)  # first: it arises anywhere, within the writing of a checkpoint too
            _raise_user_error(error)
            _raise_damaged_frame(workflow, error)
            if isinstance(cause := root_cause(error), OSError):
                raise UserError(str(cause)) from error
            raise
        workflow.finalize()
    return workflow


def find_user_error(error: BaseException) -> UserError | None:
    """Return the `UserError` in the chain of causes of `error`, if there is one."""
    return next((link for link in _chain(error) if isinstance(link, UserError)), None)


def root_cause(error: BaseException) -> BaseException:
    """Return the error that MONAI's parser wrapped: the last of the chain below its own errors."""
    for link in _chain(error):
        if not (_COMPONENT.match(str(link)) or _EXPRESSION.match(str(link))):
            return link
    return error


def _workflow(files: Sequence[str | Path], config: dict[str, Any], workflow_type: str) -> ConfigWorkflow:
    beside = Path(files[0]).parent
    logging_file = beside / "logging.conf"
    workflow = ConfigWorkflow(
        config_file=str(files[0]),
        meta_file=str(beside / "metadata.json"),
        logging_file=str(logging_file) if logging_file.is_file() else False,
        workflow_type=workflow_type,
    )
    workflow.parser.update(deepcopy(config))  # what was checked is what runs; MONAI rewrites parts of it
    return workflow


def _prepare(workflow: ConfigWorkflow) -> None:
    """Initialise, and build what the run expressions refer to; here every error is one of the config."""
    try:
        workflow.initialize()
        for reference in _run_references(workflow.parser.get(workflow.run_id)):
            _require_epochs(reference, workflow.parser.get_parsed_content(reference))
    except Exception as error:
        _raise_user_error(error)
        with suppress(RuntimeError):  # where the network itself cannot be built
            _check_checkpoint(workflow, fits=True)
        raise UserError(_describe(error, workflow.parser.get())) from error
    _check_checkpoint(workflow)
    _require_frames(workflow)


def _require_epochs(name: str, built: Any) -> None:
    epochs = built.state.max_epochs if isinstance(built, Engine) else 1
    if not isinstance(epochs, int) or epochs < 1:
        raise UserError(f"{name.replace('::', '#')!r} gets {epochs!r} epochs; give a whole number of at least 1.")


def _run_references(expressions: Any) -> list[str]:
    texts = expressions if isinstance(expressions, list) else [expressions]
    return [name for text in texts if isinstance(text, str) for name in ReferenceResolver.match_refs_pattern(text)]


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        yield link
        seen.add(id(link))
        link = link.__cause__ or link.__context__


def _raise_user_error(error: BaseException) -> None:
    cause = find_user_error(error)
    if cause is None:
        return
    *_, text = str(cause).rpartition("UserError: ")  # a loader's worker sends its traceback as the text
    raise UserError(text.strip()) from error


def _raise_lost_worker(error: BaseException) -> None:
    """A loader's worker that was killed, mostly by the system for want of memory, has left no error of its own."""
    lost = next((link for link in _chain(error) if str(link).startswith("DataLoader worker")), None)
    if lost is not None:
        raise UserError(
            f"{' '.join(str(lost).split()).rstrip('.')}; mostly memory ran out. Lower num_workers, then go on with "
            "--resume."
        ) from error


def _describe(error: BaseException, config: Mapping[str, Any]) -> str:
    """What part of the config failed, and why, in one line."""
    cause = root_cause(error)
    wrappers = list(takewhile(lambda link: link is not cause, _chain(error)))
    where = _part(str(wrappers[-1]), config) if wrappers else ""
    text = " ".join(str(cause).split()).rstrip(".") or "no reason given"
    return f"The config cannot be built{where}: {type(cause).__name__}: {text}; mend the config or the override."


def _part(wrapper: str, config: Mapping[str, Any]) -> str:
    if match := _COMPONENT.match(wrapper):
        class_name = match[1].rpartition(".")[2]
        names = [name for name, part in components(config) if str(part["_target_"]).rpartition(".")[2] == class_name]
        return f" at {' or '.join(map(repr, names))} ({match[1]})" if names else f" at {match[1]}"
    if match := _EXPRESSION.match(wrapper):
        expression = re.sub(r"__local_refs\['([^']+)'\]", lambda ref: "@" + ref[1].replace("::", "#"), match[1])
        return f" at {' '.join(expression.split())}"
    return ""


# A config for inference names stock MONAI classes only, whose errors name no file. The runner looks for the culprit.


def _check_checkpoint(workflow: ConfigWorkflow, fits: bool = False) -> None:
    """Refuse a checkpoint that is not whole, which MONAI's loader may not notice, or whose network is another one."""
    parser = workflow.parser
    if "checkpointloader#load_path" in parser and parser.get_parsed_content("load_pretrain", default=True):
        objects = {"model": parser.get_parsed_content("network")} if fits else {}
        read_checkpoint(parser.get_parsed_content("checkpointloader#load_path"), objects)


def _require_frames(workflow: ConfigWorkflow) -> None:
    parser = workflow.parser
    if "images" in parser and not parser.get_parsed_content("images"):
        raise UserError(
            f"dataset_dir {parser.get_parsed_content('dataset_dir')!r} holds no frame that matches "
            f"{parser.get_parsed_content('pattern')!r}; set dataset_dir or pattern."
        )


def _raise_damaged_frame(workflow: ConfigWorkflow, error: BaseException) -> None:
    if "images" in workflow.parser:
        try:
            for path in workflow.parser.get_parsed_content("images"):
                read_frame(path)
        except UserError as damaged:
            raise damaged from error


@contextmanager
def _user_errors_unlogged() -> Iterator[None]:
    """Keep Ignite and MONAI from logging, some with a traceback, what the user will read in one line."""

    def wanted(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR or not isinstance(sys.exc_info()[1], UserError)

    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]  # MONAI's have handlers of their own
    handlers = {handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers}
    for handler in handlers:
        handler.addFilter(wanted)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(wanted)
