"""The audit: which phrases push a model from one class to another, and what to do about it."""

from secondlens.analysis.audit.audit import Cue, Evidence, PairAudit, audit_pair
from secondlens.analysis.audit.auditor import Auditor, audit_by_images
from secondlens.analysis.audit.classes import ClassPair, class_head, class_pair
from secondlens.analysis.audit.similarity import open_similarity
from secondlens.analysis.audit.table import NeuronTable, neuron_table, table_of_directions

__all__ = [
    "Auditor",
    "ClassPair",
    "Cue",
    "Evidence",
    "NeuronTable",
    "PairAudit",
    "audit_by_images",
    "audit_pair",
    "class_head",
    "class_pair",
    "neuron_table",
    "open_similarity",
    "table_of_directions",
]
