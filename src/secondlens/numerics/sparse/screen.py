"""The atom that correlates most with a residual: found in low precision, proven in float64.

A step of matching pursuit needs, for every signal, the atom `t` with the largest `|<t, r>|`. Its floor is one
product `[signal, embed] x [embed, text]`, that is `2 * signal * text * embed` floating-point operations. The
product is taken in the fastest precision the device has, on rounded operands `t'` and `r'` (the residual
scaled to length one, the atoms to length at most one). Its error is bounded, atom by atom, by

    |<t', r'> - <t, r>| <= ||t - t'|| + ||t'|| ||r - r'|| + accumulation + rounding of the result,

where both differences are *measured* in float64, not estimated. Hence the true maximum is among the atoms
whose rounded correlation lies within twice the bound of the rounded maximum. Those few are computed again in
float64, and the largest wins, the lowest index among equals: the answer is that of a float64 search, whatever
the first precision. A signal with too many such candidates is searched in float64 in the same way.
"""

from functools import lru_cache
from time import perf_counter
from typing import NamedTuple

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

GROUP = 256
"""Texts whose maximum is taken together; only groups that reach the threshold are looked into."""

CROWDED = 64
"""Groups with candidates beyond which a signal is searched in float64: low precision tells it too little."""

SCORES_BYTES = 256 * 2**20
"""Bound on one array of scores [signal, text]."""

RESCORED = 256
"""Candidates computed again in one go: few enough for their atoms and residuals to stay in the cache."""


class Best(NamedTuple):
    """The best atom of each signal: `atom` is -1, and `value` 0, where none rises above the floor."""

    atom: Int64[Tensor, "signal"]
    value: Float64[Tensor, "signal"]


class _Level(NamedTuple):
    """The atoms in one precision, with what is known of the error of a product with them."""

    atoms: Tensor  # [text padded to groups, embed]
    difference: float  # max ||t - t'||
    accumulation: float  # absolute error of a sum of `embed` products, for operands of length one
    result: float  # relative error of the result


@lru_cache(maxsize=8)
def _fastest(device_type: str, threads: int) -> torch.dtype:
    """The precision of the first search: on a CPU, bfloat16 where it multiplies faster than float32.

    Both give the same answer, so the choice may rest on a measurement. CUDA uses float32: its bfloat16
    product may reduce in bfloat16, for which there is no useful bound.
    """
    if device_type != "cpu":
        return torch.float32
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(256, 512, dtype=dtype), torch.ones(2048, 512, dtype=dtype)
        runs = []
        for _ in range(4):
            start = perf_counter()
            torch.mm(left, right.T)
            runs.append(perf_counter() - start)
        seconds[dtype] = min(runs)
    return min(seconds, key=lambda dtype: seconds[dtype])


class Screen:
    """Exact search for the best atom of many residuals.

    Shapes: `atoms [text, embed]`, float64. `positive` asks for the largest `<t, r>` instead of the largest
    `|<t, r>|`. `precision` is float32 or bfloat16, None for the faster; the answer does not depend on it.
    """

    def __init__(
        self,
        atoms: Float64[Tensor, "text embed"],
        positive: bool = False,
        precision: torch.dtype | None = None,
    ) -> None:
        self.atoms = atoms
        self.positive = positive
        self.length = torch.linalg.vector_norm(atoms, dim=1).amax().item()
        device = atoms.device.type
        if precision is None:
            precision = _fastest(device, torch.get_num_threads())
        # At least one zero row of padding: its index stands for "no atom" in lists of excluded atoms.
        self.rows = (atoms.shape[0] // GROUP + 1) * GROUP
        padded = atoms.new_zeros(self.rows, atoms.shape[1])
        torch.div(atoms, self.length, out=padded[: atoms.shape[0]])
        rounded = padded.to(precision)
        difference = max(
            torch.linalg.vector_norm(exact - low.double(), dim=1).amax().item()
            for exact, low in zip(torch.split(padded, 4096), torch.split(rounded, 4096), strict=True)
        )
        embed = atoms.shape[1]
        # Sums are in float32 in any order (unit roundoff 2^-24, doubled to cover higher-order terms). On CUDA
        # the operands count as TF32 (two roundings of 2^-10 at worst): that setting is the caller's.
        accumulation = embed * 2.0**-23 + (2.0**-9 if device == "cuda" else 0.0)
        result = 2.0**-8 if precision == torch.bfloat16 else 2.0**-23
        self._buffers: dict[torch.dtype, Tensor] = {}
        self._levels = (
            _Level(rounded, difference, accumulation, result),
            # Scaling to length one costs one rounding of each atom; it is far below the sum's own error.
            _Level(padded, 0.0, (embed + 4) * 2.0**-52, 2.0**-52),
        )

    def best(
        self,
        residual: Float64[Tensor, "signal embed"],
        excluded: Int64[Tensor, "signal some"],
        floor: Float64[Tensor, "signal"],
    ) -> Best:
        """The best atom of each residual, among those not excluded whose score is above `floor`.

        Shapes: `residual [signal, embed]`; `excluded [signal, any]`, rows of atom indices, filled up with any
        index >= text; `floor [signal]`, in the units of `<t, r>`, infinite to skip a signal.
        """
        count = residual.shape[0]
        best = Best(
            torch.full((count,), -1, dtype=torch.int64, device=residual.device),
            torch.zeros(count, dtype=torch.float64, device=residual.device),
        )
        norms = torch.linalg.vector_norm(residual, dim=1)
        searched = torch.nonzero(norms * self.length > floor)[:, 0]
        for level in self._levels:
            step = max(1, SCORES_BYTES // (self.rows * level.atoms.element_size()))
            crowded = [
                self._search(level, best, rows, residual, norms, excluded, floor)
                for rows in torch.split(searched, step)
            ]
            searched = torch.cat(crowded) if crowded else searched
            if searched.numel() == 0:
                break
        return best

    def _search(
        self,
        level: _Level,
        best: Best,
        rows: Tensor,
        residual: Tensor,
        norms: Tensor,
        excluded: Tensor,
        floor: Tensor,
    ) -> Tensor:
        """Write the best atoms of some signals; return those signals that a finer level must search."""
        if rows.numel() == 0:
            return rows
        unit = residual[rows] / norms[rows, None]
        low = unit.to(level.atoms.dtype)
        scores = torch.mm(low, level.atoms.T, out=self._buffer(rows.numel(), level.atoms.dtype))
        # For numbers that are not negative the order of the bits is the order of the numbers, and comparing
        # 16-bit integers is several times faster than comparing bfloat16.
        scores = scores.clamp_(min=0) if self.positive else scores.abs_()
        position = torch.arange(rows.numel(), device=rows.device)[:, None]
        scores[position, excluded[rows].clamp(max=self.rows - 1)] = -1.0
        ordered = scores.view(torch.int16) if scores.dtype == torch.bfloat16 else scores
        ordered = ordered.view(rows.numel(), self.rows // GROUP, GROUP)
        groups = ordered.amax(dim=2)
        top = groups.amax(dim=1, keepdim=True).view(scores.dtype).double()[:, 0]
        error = level.difference + torch.linalg.vector_norm(unit - low.double(), dim=1) * (1 + level.difference)
        error += level.accumulation + level.result * top.clamp(min=0)
        lowest = floor[rows] / (norms[rows] * self.length)
        threshold = torch.maximum(top - 2 * error, lowest - error)
        # Rounded down (never up) to the scores' precision, lest a candidate on the edge be lost.
        bar = (threshold.clamp(min=0) * (1 - 2 * level.result)).to(scores.dtype)
        bar = (bar.view(torch.int16) if scores.dtype == torch.bfloat16 else bar)[:, None]
        hit = groups >= bar
        final = level is self._levels[-1]
        crowded = (threshold <= 0) | (hit.sum(dim=1) > CROWDED)
        if final:
            crowded.zero_()
        hit &= ((top + error > lowest) & ~crowded)[:, None]
        row, group = torch.nonzero(hit, as_tuple=True)
        inside, member = torch.nonzero(ordered[row, group] >= bar[row], as_tuple=True)
        row, index = row[inside], group[inside] * GROUP + member
        kept = index < self.atoms.shape[0]
        self._rescore(best, rows, row[kept], index[kept], residual, floor)
        return rows[crowded]

    def _buffer(self, count: int, dtype: torch.dtype) -> Tensor:
        """Room for scores [count, text], kept between steps: getting it anew costs as much as filling it."""
        held = self._buffers.get(dtype)
        if held is None or held.shape[0] < count:
            held = self._buffers[dtype] = torch.empty(count, self.rows, dtype=dtype, device=self.atoms.device)
        return held[:count]

    def _rescore(self, best: Best, rows: Tensor, row: Tensor, index: Tensor, residual: Tensor, floor: Tensor) -> None:
        """Compute the candidates (`row` of `rows`, `index` of the atoms) in float64; keep each row's best."""
        if row.numel() == 0:
            return
        values = torch.cat(
            [
                (self.atoms[some] * residual[rows[of]]).sum(dim=1)
                for some, of in zip(torch.split(index, RESCORED), torch.split(row, RESCORED), strict=True)
            ]
        )
        size = values if self.positive else values.abs()
        largest = size.new_full((rows.numel(),), -torch.inf).scatter_reduce(0, row, size, "amax")
        wins = size == largest[row]
        none = self.atoms.shape[0]
        winner = index.new_full((rows.numel(),), none).scatter_reduce(0, row[wins], index[wins], "amin")
        chosen = wins & (index == winner[row])
        above = chosen & (size > floor[rows[row]])
        best.atom[rows[row[above]]] = index[above]
        best.value[rows[row[above]]] = values[above]
