"""The audit: which phrases push a model from one class to another, and what to do about it."""

from secondlens.applications.audit.audit import Cue, Evidence, PairAudit, audit_pair
from secondlens.applications.audit.auditor import Auditor
from secondlens.applications.audit.by_images import audit_by_images
from secondlens.applications.audit.classes import ClassPair, class_head, class_pair
from secondlens.applications.audit.similarity import open_similarity
from secondlens.applications.audit.table import NeuronTable, neuron_table, table_of_directions

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
