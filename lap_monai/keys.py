"""Names of what travels in a datalist row, a sample, a batch and an engine's state.

The values are plain strings, so that JSON bundle configs, MONAI dictionary transforms and this package spell them
alike.
"""

# A datalist row, as the readers of `lap_monai.data` return it (JSON-able).
IMAGE = "image"  #: path of the frame in a row; `(3, H, W)` in a sample
LABEL = "label"  #: path of the mask or None in a row; class ids `(1, H, W)`, 255 = ignore, in a sample
VIDEO = "video"  #: patient id. Splits, budgets and intervals go by it
CLIP = "clip"  #: run of consecutive frames of one video
FRAME = "frame"  #: frame number within the video, an int
PHASE = "phase"  #: surgical phase: name or None in a row; its index or -1 in a sample

# Further entries of a sample or a batch.
CLASSES = "classes"  #: multi-hot class vector, float `(C,)`
AUGMENTATIONS = "augmentations"  #: of a batch: what was drawn for each frame and is still to be applied
VIEW = "view"  #: second augmentation of the frame, `(3, H, W)`
HAS_MASK = "has_mask"  #: whether the sample's mask may be used, bool
SOFT_TARGETS = "soft_targets"  #: what earlier networks say about the frame, `uint8 (K, H, W)`; zeros if not asked
KNOWLEDGE = "knowledge"  #: what the labels say of each class, `uint8 (C,)`; see `lap_monai.task_stream.Knowledge`

# What a network or an engine adds.
PRED = "pred"  #: segmentation logits `(B, C, H, W)`
LOSS = "loss"
EMBEDDINGS = "embeddings"  #: one `(B, D)` tensor per encoder scale
CLASS_LOGITS = "class_logits"  #: image-level classification logits `(B, C)`

#: Class id that no loss and no metric counts: undecided pixels, padding, classes outside the label space.
IGNORE_INDEX = 255
