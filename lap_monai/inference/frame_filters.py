"""Frames that are not worth segmenting."""

from __future__ import annotations

from PIL import Image

from lap_monai.data import is_black
from lap_monai.inference.source import Item


def skip_black(item: Item) -> str | None:
    """Pass over frames that show nothing: the light is off, or the scope is out of the body and covered."""
    return "black" if is_black(Image.fromarray(item.image)) else None
