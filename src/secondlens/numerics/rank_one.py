"""Rank one: a neuron's direction, and how much of its effect that one direction explains.

Of the top images' centred effects Phi [top, embed] of a neuron (around the survey's mean), the first right singular
vector is its direction r (paper, section 4). With coefficients S [top, path], Phi = S u, so the singular vectors come
from Y = S R [top, path]; for projections x = Phi r with |x|^2 = l, the eigenvalue, r = u^T S^T x / l. A singular vector
has no sign of its own: r is signed so that the projections sum to no less than zero.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondlens.numerics.largest import TopEffects
from secondlens.numerics.parallel import eigh

COMPONENTS = 4
"""Components kept a neuron."""

TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class RankOne:
    """The leading components of a block of neurons.

    spectrum: share of sum |phi - mean|^2 over the top images explained by each component, descending; the first is
    the explained variance. participation: (sum_j l_j)^2 / sum_j l_j^2 over all eigenvalues l_j, the effective rank.
    components: v_j [path] with r_j = sum_k v_j[k] u[k] of unit norm. along: <u[k], r_1>, so that the projection of any
    effect is sum_k (s[k] - mean[k]) along[k]. projections: of the top images on r_1.
    path_fractions: share of each path in sum_I x(I)^2, signed, summing to one.
    """

    spectrum: Float[Tensor, "neuron component"]
    participation: Float[Tensor, " neuron"]
    components: Float[Tensor, "neuron component path"]
    along: Float[Tensor, "neuron path"]
    projections: Float[Tensor, "neuron top"]
    path_fractions: Float[Tensor, "neuron path"]


def rank_one(top: TopEffects, root: Float[Tensor, "neuron path path"], components: int = COMPONENTS) -> RankOne:
    """Decompose the top effects of a block of neurons; a neuron without any effect gets zeros throughout.

    components: how many to keep; fewer where there are fewer images or paths.
    """
    root, rows = root.double(), top.rows
    images, paths = rows.shape[1:]
    count = min(components, images, paths)
    # Y Y^T and Y^T Y share their non-zero eigenvalues: decompose the smaller.
    gram = torch.bmm(rows, rows.mT) if images <= paths else torch.bmm(rows.mT, rows)
    total = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    eigenvalues, vectors = eigh(gram)
    eigenvalues, vectors = eigenvalues[:, -count:].flip(1).clamp(min=0), vectors[:, :, -count:].flip(2)
    projections = vectors * eigenvalues.sqrt()[:, None] if images <= paths else torch.bmm(rows, vectors)
    # Below this an eigenvalue is rounding, its vector arbitrary.
    alive = eigenvalues > (1e-14 * total[:, None]).clamp(min=TINY)
    projections = torch.where(alive[:, None], projections * _signs(projections)[:, None], 0.0)
    # Phi^T x_j = l_j r_j, so r_j = u^T (S^T x_j / l_j).
    weights = torch.bmm(projections.mT, top.centred) / eigenvalues.clamp(min=TINY)[:, :, None]
    along = torch.bmm(root, torch.bmm(root.mT, weights[:, 0, :, None]))[:, :, 0]
    first = projections[:, :, 0]
    shares = torch.einsum("nt,ntk->nk", first, top.centred) * along
    return RankOne(
        spectrum=eigenvalues / total[:, None].clamp(min=TINY),
        participation=total.square() / gram.square().sum(dim=(1, 2)).clamp(min=TINY),
        components=weights,
        along=along,
        projections=first,
        path_fractions=shares / eigenvalues[:, :1].clamp(min=TINY),
    )


def _signs(projections: Float[Tensor, "neuron image component"]) -> Float[Tensor, "neuron component"]:
    """Return +1 or -1 such that the projections sum to no less than zero; +1 where they sum to zero exactly.

    Not a vote of the images: that flips a unit which is active on fewer than half of them.
    """
    return torch.where(projections.sum(dim=1) < 0, -1.0, 1.0).to(projections)
