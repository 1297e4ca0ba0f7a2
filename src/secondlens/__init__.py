"""secondlens: what every neuron of a CLIP-like vision transformer writes to the text-image space.

    import secondlens as sl
    model = sl.load_model("hf:openai/clip-vit-base-patch32")
    atlas = sl.survey(model, "photos/", out="atlas/", layers=[8, 9, 10])
    atlas.layer(9).directions                                              # [neuron, embed]

The names below are the public interface. They are imported when first used, so that `import secondlens` and the
command line's `--help` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secondlens.analysis.attribution import Attribution, explain
    from secondlens.analysis.audit import PairAudit
    from secondlens.analysis.audit.auditor import audit
    from secondlens.analysis.concepts import ImageConcepts, find_concepts
    from secondlens.analysis.heatmaps import HeatMap, heat_map
    from secondlens.atlas import Atlas, AtlasLayer
    from secondlens.descriptions import Descriptions
    from secondlens.descriptions.describe import describe
    from secondlens.descriptions.search import search
    from secondlens.errors import SecondLensError
    from secondlens.lens import (
        FactoredEffects,
        LensModel,
        first_order_effects,
        first_order_neurons,
        load_model,
        patch_contributions,
        second_order_effects,
        wrap,
    )
    from secondlens.numerics.sparse.codes import SparseCodes, sparse_decompose
    from secondlens.surveys.run import survey
    from secondlens.viewer.card import NeuronView

__version__ = "0.1.0"

_HOMES = {
    "Atlas": "secondlens.atlas",
    "AtlasLayer": "secondlens.atlas",
    "Attribution": "secondlens.analysis.attribution",
    "Descriptions": "secondlens.descriptions",
    "FactoredEffects": "secondlens.lens",
    "HeatMap": "secondlens.analysis.heatmaps",
    "ImageConcepts": "secondlens.analysis.concepts",
    "LensModel": "secondlens.lens",
    "NeuronView": "secondlens.viewer.card",
    "PairAudit": "secondlens.analysis.audit",
    "SecondLensError": "secondlens.errors",
    "SparseCodes": "secondlens.numerics.sparse.codes",
    "audit": "secondlens.analysis.audit.auditor",
    "describe": "secondlens.descriptions.describe",
    "explain": "secondlens.analysis.attribution",
    "find_concepts": "secondlens.analysis.concepts",
    "first_order_effects": "secondlens.lens",
    "first_order_neurons": "secondlens.lens",
    "heat_map": "secondlens.analysis.heatmaps",
    "load_model": "secondlens.lens",
    "patch_contributions": "secondlens.lens",
    "search": "secondlens.descriptions.search",
    "second_order_effects": "secondlens.lens",
    "sparse_decompose": "secondlens.numerics.sparse.codes",
    "survey": "secondlens.surveys.run",
    "wrap": "secondlens.lens",
}

__all__ = [
    "Atlas",
    "AtlasLayer",
    "Attribution",
    "Descriptions",
    "FactoredEffects",
    "HeatMap",
    "ImageConcepts",
    "LensModel",
    "NeuronView",
    "PairAudit",
    "SecondLensError",
    "SparseCodes",
    "__version__",
    "audit",
    "describe",
    "explain",
    "find_concepts",
    "first_order_effects",
    "first_order_neurons",
    "heat_map",
    "load_model",
    "patch_contributions",
    "search",
    "second_order_effects",
    "sparse_decompose",
    "survey",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'secondlens' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
