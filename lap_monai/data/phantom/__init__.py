"""A procedural surgery in the layout of real data sets: for trying everything out where no data may be at hand.

The pictures are made, no pixel comes from a patient. `PHANTOM_VERSION` names the generator; a data set carries it in
`phantom.json`, so that a result on the phantom says on which.
"""

from __future__ import annotations

from lap_monai.data.phantom.frame import render_frame
from lap_monai.data.phantom.version import PHANTOM_VERSION
from lap_monai.data.phantom.write import LAYOUTS, write_phantom

__all__ = ["LAYOUTS", "PHANTOM_VERSION", "render_frame", "write_phantom"]
