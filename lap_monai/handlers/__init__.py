"""Ignite handlers that wire methods into stock MONAI engines. They hold no formula."""

from lap_monai.checkpoints import read_checkpoint, write_checkpoint
from lap_monai.handlers.checkpoints import BestCheckpoint, LastCheckpoint, ResumeCheckpoint, VerifiedCheckpointLoader
from lap_monai.handlers.cross_batch_memory import CrossBatchMemory
from lap_monai.handlers.cross_image_memory import CrossImageMemory
from lap_monai.handlers.ema_target import EmaTarget
from lap_monai.handlers.ema_weights import EmaWeights
from lap_monai.handlers.embedding_sampler import EmbeddingSampler
from lap_monai.handlers.entropy_thresholds import EntropyThresholds
from lap_monai.handlers.epoch_seed import EpochSeed
from lap_monai.handlers.frozen_old import FrozenOld
from lap_monai.handlers.iteration_seed import IterationSeed
from lap_monai.handlers.loss_injector import LossInjector
from lap_monai.handlers.loss_terms import iteration_terms, loss_terms, record_term
from lap_monai.handlers.memorisation_stop import MemorisationStop
from lap_monai.handlers.mlflow_tracking import MLflowTracking
from lap_monai.handlers.prepare_batch import PrepareMixedBatch
from lap_monai.handlers.prepare_noise import PrepareNoise, PrepareVelocity
from lap_monai.handlers.pretrained_encoder import PretrainedEncoder
from lap_monai.handlers.previous_step import PreviousStep
from lap_monai.handlers.process_group import leave_process_group
from lap_monai.handlers.pseudo_labels import PseudoLabels
from lap_monai.handlers.results_writer import ResultsWriter
from lap_monai.handlers.run_record import RunRecord
from lap_monai.handlers.schedules import LinearRamp, polynomial_decay
from lap_monai.handlers.segmentation_scores import SegmentationScores
from lap_monai.handlers.step_results import StepResults
from lap_monai.handlers.step_scores import StepFrameScores, StepScores, channel_space
from lap_monai.handlers.stop_on_non_finite import StopOnNonFinite
from lap_monai.handlers.teacher import TeacherPredictions
from lap_monai.handlers.teacher_targets import TeacherTargets
from lap_monai.handlers.term_logger import TermLogger
from lap_monai.handlers.training_history import TrainingHistory
from lap_monai.handlers.unpack_outputs import UnpackOutputs
from lap_monai.handlers.weight_fusion import WeightFusion

__all__ = [
    "BestCheckpoint",
    "CrossBatchMemory",
    "CrossImageMemory",
    "EmaTarget",
    "EmaWeights",
    "EmbeddingSampler",
    "EntropyThresholds",
    "EpochSeed",
    "FrozenOld",
    "IterationSeed",
    "LastCheckpoint",
    "LinearRamp",
    "LossInjector",
    "MLflowTracking",
    "MemorisationStop",
    "PrepareMixedBatch",
    "PrepareNoise",
    "PrepareVelocity",
    "PretrainedEncoder",
    "PreviousStep",
    "PseudoLabels",
    "ResultsWriter",
    "ResumeCheckpoint",
    "RunRecord",
    "SegmentationScores",
    "StepFrameScores",
    "StepResults",
    "StepScores",
    "StopOnNonFinite",
    "TeacherPredictions",
    "TeacherTargets",
    "TermLogger",
    "TrainingHistory",
    "UnpackOutputs",
    "VerifiedCheckpointLoader",
    "WeightFusion",
    "channel_space",
    "iteration_terms",
    "leave_process_group",
    "loss_terms",
    "polynomial_decay",
    "read_checkpoint",
    "record_term",
    "write_checkpoint",
]
