"""Synthetic frames that stand in for those a hospital may not keep: drawn, kept with their origin, judged."""

from lap_monai.replay.audit import COPY_DISTANCE, MIN_PATIENTS, AuditResult, MemorisationAudit, null_frames, null_limit
from lap_monai.replay.colour import ColourModel
from lap_monai.replay.feature_space import FeatureSpace
from lap_monai.replay.features import encoder_features
from lap_monai.replay.frames import CachedFrames, Frames
from lap_monai.replay.generate import generate_set, verify_set
from lap_monai.replay.generator import SAMPLERS, FrameGenerator, check_frame_size, weights_sha256
from lap_monai.replay.near_duplicates import near_duplicates
from lap_monai.replay.nearest import Nearest
from lap_monai.replay.pixel_space import PixelSpace
from lap_monai.replay.planted import plant_copies
from lap_monai.replay.quality import kid, ms_ssim_diversity, precision_recall
from lap_monai.replay.samplers import (
    THRESHOLDS,
    Denoiser,
    ImageNoise,
    check_target,
    ddim,
    ddpm,
    dpm_solver,
    sde_dpm_solver,
)
from lap_monai.replay.schedules import NoiseSchedule, zero_terminal_snr
from lap_monai.replay.selection import select_balanced
from lap_monai.replay.set_audit import REASONS, AuditOutcome, Neighbours, SetAudit
from lap_monai.replay.set_frames import SetFrames
from lap_monai.replay.synthetic_set import SyntheticImage, SyntheticSet, image_seed
from lap_monai.replay.teacher import Teacher, confidence
from lap_monai.replay.teacher_labels import (
    TeacherAnswers,
    label_images,
    read_probabilities,
    write_teacher_labels,
)
from lap_monai.replay.training_rows import replay_rows, synthetic_rows

__all__ = [
    "COPY_DISTANCE",
    "MIN_PATIENTS",
    "REASONS",
    "SAMPLERS",
    "THRESHOLDS",
    "AuditOutcome",
    "AuditResult",
    "CachedFrames",
    "ColourModel",
    "Denoiser",
    "FeatureSpace",
    "FrameGenerator",
    "Frames",
    "ImageNoise",
    "MemorisationAudit",
    "Nearest",
    "Neighbours",
    "NoiseSchedule",
    "PixelSpace",
    "SetAudit",
    "SetFrames",
    "SyntheticImage",
    "SyntheticSet",
    "Teacher",
    "TeacherAnswers",
    "check_frame_size",
    "check_target",
    "confidence",
    "ddim",
    "ddpm",
    "dpm_solver",
    "encoder_features",
    "generate_set",
    "image_seed",
    "kid",
    "label_images",
    "ms_ssim_diversity",
    "near_duplicates",
    "null_frames",
    "null_limit",
    "plant_copies",
    "precision_recall",
    "read_probabilities",
    "replay_rows",
    "sde_dpm_solver",
    "select_balanced",
    "synthetic_rows",
    "verify_set",
    "weights_sha256",
    "write_teacher_labels",
    "zero_terminal_snr",
]
