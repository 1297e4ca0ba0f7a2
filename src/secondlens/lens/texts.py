"""Texts and prompt templates to the joint space."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.data.texts import ASIS
from secondlens.errors import TextError
from secondlens.lens.model import LensModel
from secondlens.progress import Count

ENCODED_AT_ONCE = 2048
"""Texts between two steps of the progress bar; the model batches them further."""

Encoder = Callable[[list[list[str]], Sequence[str], bool], Iterable[Tensor]]


def encode(
    model: LensModel,
    texts: Sequence[str],
    templates: Sequence[str] = ASIS,
    truncate: bool = False,
    progress: Count | None = None,
    elsewhere: Encoder | None = None,
) -> Float[Tensor, "text embed"]:
    """Unit-norm mean over templates of the unit-norm embeddings of each text, float32 on the CPU."""
    step = max(1, ENCODED_AT_ONCE // len(templates))
    some = [list(texts[start : start + step]) for start in range(0, len(texts), step)]
    made = (encode_part(model, part, templates, truncate) for part in some)
    parts: list[Tensor] = []
    for part in made if elsewhere is None else elsewhere(some, templates, truncate):
        parts.append(part)
        if progress is not None:
            progress(sum(map(len, parts)), len(texts))
    found = torch.cat(parts)
    broken = (~torch.isfinite(found).all(dim=1)).nonzero()[:, 0].tolist()
    if broken:
        raise TextError(f"{len(broken)} texts have an embedding that is not finite (first: {texts[broken[0]]!r})")
    return found


def encode_part(
    model: LensModel, texts: Sequence[str], templates: Sequence[str], truncate: bool
) -> Float[Tensor, "text embed"]:
    """`encode` for as many texts as are encoded in one go."""
    filled = [template.replace("{}", text) for text in texts for template in templates]
    encoded = model.encode_texts(filled, truncate=truncate).view(len(texts), len(templates), -1).mean(dim=1)
    return torch.nn.functional.normalize(encoded, dim=-1).float().cpu()
