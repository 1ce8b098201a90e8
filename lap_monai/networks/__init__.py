"""Networks and network parts: tensors in, tensors out."""

from lap_monai.networks.checkpointing import checkpoint_blocks
from lap_monai.networks.efficientnet_lite import EfficientNetLiteEncoder
from lap_monai.networks.efficientnet_lite_unet import EfficientNetLiteUNet
from lap_monai.networks.encoder_decoder import EncoderDecoder, encoder_channels, encoder_decoder, encoder_shapes
from lap_monai.networks.encoder_modules import encoder_modules, encoder_state_names
from lap_monai.networks.growing_head import classifier_axes, grow_classifier, mute_background
from lap_monai.networks.incremental import IncrementalOutput, IncrementalSegmenter
from lap_monai.networks.merged_teacher import MergedTeacher, load_merged_teacher
from lap_monai.networks.multi_task import MultiTaskOutput, MultiTaskSegmenter
from lap_monai.networks.patch_diffusion_unet import PatchDiffusionUNet
from lap_monai.networks.prediction import MultiScalePredictor
from lap_monai.networks.projection import MultiScaleProjectionHead
from lap_monai.networks.reconstruction import ReconstructionHead
from lap_monai.networks.teacher import load_teacher
from lap_monai.networks.weight_fusion import fuse_states, fusion_share

__all__ = [
    "EfficientNetLiteEncoder",
    "EfficientNetLiteUNet",
    "EncoderDecoder",
    "IncrementalOutput",
    "IncrementalSegmenter",
    "MergedTeacher",
    "MultiScalePredictor",
    "MultiScaleProjectionHead",
    "MultiTaskOutput",
    "MultiTaskSegmenter",
    "PatchDiffusionUNet",
    "ReconstructionHead",
    "checkpoint_blocks",
    "classifier_axes",
    "encoder_channels",
    "encoder_decoder",
    "encoder_modules",
    "encoder_shapes",
    "encoder_state_names",
    "fuse_states",
    "fusion_share",
    "grow_classifier",
    "load_merged_teacher",
    "load_teacher",
    "mute_background",
]
