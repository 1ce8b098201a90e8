"""Networks and network parts: tensors in, tensors out."""

from lap_monai.networks.efficientnet_lite import EfficientNetLiteEncoder
from lap_monai.networks.efficientnet_lite_unet import EfficientNetLiteUNet
from lap_monai.networks.encoder_decoder import EncoderDecoder, encoder_channels, encoder_decoder, encoder_shapes
from lap_monai.networks.encoder_modules import encoder_modules, encoder_state_names
from lap_monai.networks.multi_task import MultiTaskOutput, MultiTaskSegmenter
from lap_monai.networks.prediction import MultiScalePredictor
from lap_monai.networks.projection import MultiScaleProjectionHead
from lap_monai.networks.reconstruction import ReconstructionHead
from lap_monai.networks.teacher import load_teacher

__all__ = [
    "EfficientNetLiteEncoder",
    "EfficientNetLiteUNet",
    "EncoderDecoder",
    "MultiScalePredictor",
    "MultiScaleProjectionHead",
    "MultiTaskOutput",
    "MultiTaskSegmenter",
    "ReconstructionHead",
    "encoder_channels",
    "encoder_decoder",
    "encoder_modules",
    "encoder_shapes",
    "encoder_state_names",
    "load_teacher",
]
