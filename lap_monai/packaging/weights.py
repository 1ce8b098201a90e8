"""The one check that weights need before they are given away: that the bundle's inference can load them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

from lap_monai.checks import UserError

#: Where a bundle keeps its weights.
WEIGHTS = "models/model.pt"


def check_weights(path: Path, inference_config: Path) -> None:
    """Load weights into the network of an inference config.

    Args:
        path: a file `{"model": state dict}`, as `BestCheckpoint` writes it.
        inference_config: the config whose `network_def` will load it.

    Raises:
        UserError: if the file is damaged, holds more than a network (a resumable checkpoint), or holds another one.
    """
    import torch
    from monai.bundle import ConfigParser

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{str(path)!r} is damaged or no checkpoint ({type(error).__name__}); train again.") from error
    names = set(content) if isinstance(content, dict) else set()
    if "model" not in names or names - {"model", "identity"}:
        raise UserError(f"{str(path)!r} is no plain network; give the model.pt of a run, not its checkpoint.pt.")
    parser = ConfigParser()
    parser.read_config(str(inference_config))
    network = parser.get_parsed_content("network_def")
    try:
        network.load_state_dict(content["model"])
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{str(path)!r} does not fit network_def of {inference_config.name}: {first} "
            "Set its features and num_classes to those of the training."
        ) from error
