"""The predictor of BYOL."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MultiScalePredictor(nn.Module):
    """One multilayer perceptron per scale, from an embedding to another embedding (BYOL, Grill et al. 2020, 3.3).

    It stands behind the projection head of the network that learns and is missing in the target network; without this
    asymmetry all embeddings would become one point.

    Args:
        scales: L, the number of embeddings.
        embedding_dim: D, their length.
        hidden_dim: width of the hidden layer.
    """

    def __init__(self, scales: int, embedding_dim: int, hidden_dim: int = 512) -> None:
        super().__init__()
        self.predictors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(embedding_dim, hidden_dim),
                nn.BatchNorm1d(hidden_dim),
                nn.ReLU(),
                nn.Linear(hidden_dim, embedding_dim),
            )
            for _ in range(scales)
        )

    def forward(self, embeddings: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one `(B, D)` prediction for each `(B, D)` embedding; B must be more than 1 in training."""
        return tuple(predictor(z) for predictor, z in zip(self.predictors, embeddings, strict=True))
