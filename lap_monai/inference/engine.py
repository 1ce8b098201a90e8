"""What runs the network: eager PyTorch here, compiled and exported forms registered beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch

from lap_monai.checks import UserError, require_choice

if TYPE_CHECKING:
    from lap_monai.inference.bundle import Bundle

#: Names of precisions that an engine may be asked for.
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Engine(Protocol):
    """A network ready to be called from one thread."""

    @property
    def name(self) -> str:
        """As registered. The properties may be plain attributes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where logits are returned, and where a batch is best handed over."""
        ...

    @property
    def precision(self) -> str:
        """A key of `PRECISIONS`, or `"int8"`."""
        ...

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits `(N, C, h, w)` of preprocessed frames, float32 `(N, 3, h, w)` with sides of whole strides.

        Raises:
            torch.OutOfMemoryError, or what the runtime raises: where memory does not hold the batch; the caller halves
                it if the error's words say so.
        """
        ...


#: `(bundle, device, precision)` → engine. A precision of None leaves the choice to the engine.
EngineOpener = Callable[["Bundle", torch.device, str | None], Engine]

#: Engines by the name that `--engine` takes.
ENGINES: dict[str, EngineOpener] = {}


def register_engine(name: str, opener: EngineOpener) -> EngineOpener:
    """Add an engine; a `UserError` of the opener says which package or exported file it lacks, and how to get it."""
    ENGINES[name] = opener
    return opener


def open_engine(
    name: str, bundle: Bundle, device: str | torch.device | None = None, precision: str | None = None
) -> Engine:
    """Open an engine.

    Args:
        name: a key of `ENGINES`.
        bundle: whose network is run.
        device: None takes the first GPU if there is one.
        precision: a key of `PRECISIONS`; None is float16 on a GPU, as the bundle's own inference, float32 elsewhere.

    Raises:
        UserError: for an unknown name or precision, a device that is not there, or whatever the engine lacks.
    """
    opener = ENGINES[require_choice(name, ENGINES, "engine")]
    if precision is not None:
        require_choice(precision, PRECISIONS, "precision")
    return opener(bundle, _device(device), precision)


class TorchEngine:
    """The bundle's own network, eager.

    Args:
        network: in evaluation mode.
        device: where it runs.
        precision: a key of `PRECISIONS`; None is float16 (autocast) on a GPU, float32 elsewhere.
        channels_last: memory layout of the convolutions; faster on most CPUs and GPUs, rounds differently.
    """

    name = "torch"

    def __init__(
        self,
        network: torch.nn.Module,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        channels_last: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self.precision = precision or ("float16" if self.device.type == "cuda" else "float32")
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._network = network.to(self.device).eval()
        if channels_last:
            for weights in self._network.parameters():
                if weights.ndim == 4:  # `Module.to(memory_format=)` has no type
                    weights.data = weights.data.contiguous(memory_format=self._layout)

    @classmethod
    def open(cls, bundle: Bundle, device: torch.device, precision: str | None) -> TorchEngine:
        """Make the engine of a bundle."""
        return cls(bundle.build_network(), device, precision)

    @torch.no_grad()  # not inference_mode: the sliding window weighs the logits in place
    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch, float32."""
        batch = batch.to(self.device, memory_format=self._layout, non_blocking=True)
        with torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=self.precision != "float32"):
            return self._network(batch).float()


register_engine("torch", TorchEngine.open)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        if "Expected one of" in reason:  # two lines of names of other people's accelerators
            reason = "no device is called so"
        raise UserError(f"The device {str(device)!r} cannot be used ({reason}); give --device cpu.") from error
    return found
