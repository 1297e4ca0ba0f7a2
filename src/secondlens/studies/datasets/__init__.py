"""Published data sets in the layouts that people have them in: ImageNet, ImageNet-R, CIFAR, and any labelled folder."""

from secondlens.studies.datasets.opening import open_evaluation, open_survey
from secondlens.studies.datasets.wnids import ClassTable, openclip_classes, read_class_table

__all__ = ["ClassTable", "open_evaluation", "open_survey", "openclip_classes", "read_class_table"]
