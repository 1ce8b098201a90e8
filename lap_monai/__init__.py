"""Label-efficient and class-incremental segmentation of laparoscopic surgery, as parts for MONAI bundles."""

__version__ = "0.1.0"
