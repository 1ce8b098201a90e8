"""A trained bundle at work: frames from many kinds of files in, predictions to many kinds of files out."""

from lap_monai.inference.arrays import Arrays
from lap_monai.inference.bundle import Bundle
from lap_monai.inference.compiled_engine import CompiledEngine
from lap_monai.inference.conversion import INPUT, OUTPUT, require_package, to_onnx, to_openvino, to_torchscript
from lap_monai.inference.dicom import is_dicom
from lap_monai.inference.engine import ENGINES, Engine, TorchEngine, open_engine, register_engine
from lap_monai.inference.exported_model import (
    EXPORT_FILES,
    export_record,
    exported_model,
    file_sha256,
    write_export_record,
)
from lap_monai.inference.frame_filters import skip_black
from lap_monai.inference.frame_table import FrameTable
from lap_monai.inference.frames import FrameFiles
from lap_monai.inference.label_maps import LabelMaps
from lap_monai.inference.live import LiveCapture
from lap_monai.inference.maps import ProbabilityMaps, UncertaintyMaps
from lap_monai.inference.nifti_source import NiftiSource
from lap_monai.inference.nifti_writer import NiftiWriter
from lap_monai.inference.onnxruntime_engine import OnnxRuntimeEngine
from lap_monai.inference.openvino_engine import OpenVinoEngine
from lap_monai.inference.overlays import OverlayPictures, OverlayVideo
from lap_monai.inference.painter import Painter
from lap_monai.inference.pipeline import Pipeline
from lap_monai.inference.predictor import Predictor
from lap_monai.inference.preprocessing import Preprocessing
from lap_monai.inference.run import Options, predict
from lap_monai.inference.smoothing import Smoother
from lap_monai.inference.source import (
    SOURCE_FORMATS,
    Failure,
    Item,
    Source,
    SourceFormat,
    open_source,
    register_source,
)
from lap_monai.inference.torchscript_engine import TorchScriptEngine
from lap_monai.inference.video import VideoFile
from lap_monai.inference.writer import WRITERS, FileWriter, Output, Prediction, Writer, open_writers, register_writer

__all__ = [
    "ENGINES",
    "EXPORT_FILES",
    "INPUT",
    "OUTPUT",
    "SOURCE_FORMATS",
    "WRITERS",
    "Arrays",
    "Bundle",
    "CompiledEngine",
    "Engine",
    "Failure",
    "FileWriter",
    "FrameFiles",
    "FrameTable",
    "Item",
    "LabelMaps",
    "LiveCapture",
    "NiftiSource",
    "NiftiWriter",
    "OnnxRuntimeEngine",
    "OpenVinoEngine",
    "Options",
    "Output",
    "OverlayPictures",
    "OverlayVideo",
    "Painter",
    "Pipeline",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "ProbabilityMaps",
    "Smoother",
    "Source",
    "SourceFormat",
    "TorchEngine",
    "TorchScriptEngine",
    "UncertaintyMaps",
    "VideoFile",
    "Writer",
    "export_record",
    "exported_model",
    "file_sha256",
    "is_dicom",
    "open_engine",
    "open_source",
    "open_writers",
    "predict",
    "register_engine",
    "register_source",
    "register_writer",
    "require_package",
    "skip_black",
    "to_onnx",
    "to_openvino",
    "to_torchscript",
    "write_export_record",
]
