"""A trained bundle at work: frames from many kinds of files in, predictions to many kinds of files out."""

from lap_monai.inference.bundle import Bundle
from lap_monai.inference.engine import ENGINES, Engine, TorchEngine, open_engine, register_engine
from lap_monai.inference.frames import FrameFiles
from lap_monai.inference.label_maps import LabelMaps
from lap_monai.inference.predictor import Predictor
from lap_monai.inference.source import (
    SOURCE_FORMATS,
    Failure,
    Item,
    Source,
    SourceFormat,
    open_source,
    register_source,
)
from lap_monai.inference.writer import WRITERS, Output, Prediction, Writer, open_writers, register_writer

__all__ = [
    "ENGINES",
    "SOURCE_FORMATS",
    "WRITERS",
    "Bundle",
    "Engine",
    "Failure",
    "FrameFiles",
    "Item",
    "LabelMaps",
    "Output",
    "Prediction",
    "Predictor",
    "Source",
    "SourceFormat",
    "TorchEngine",
    "Writer",
    "open_engine",
    "open_source",
    "open_writers",
    "register_engine",
    "register_source",
    "register_writer",
]
