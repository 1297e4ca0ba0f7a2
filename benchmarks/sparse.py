"""Sparse decomposition against scikit-learn's: time a signal, the floor, memory, and equal supports.

Run: python -m benchmarks.sparse [--texts 30000 --embed 512 --nonzero 128 --signals 512 --reference 2]

The dictionary is random with correlated atoms (clusters and a falling spectrum, as of a text encoder).
"""

import argparse
from statistics import median

import numpy as np
import torch

from benchmarks.report import gpu_memory_gib, memory_gib, record, timed
from secondlens.numerics.sparse.codes import SparseCodes, sparse_decompose
from secondlens.numerics.sparse.dictionary import text_atoms
from secondlens.numerics.sparse.screen import Screen

NEURONS = 9216
"""The neurons of three layers of a ViT-B: the size the time is extrapolated to."""


def correlated_problem(texts: int, embed: int, signals: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit-norm signals and texts: a shared offset, 200 clusters, a falling spectrum, noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    spectrum = torch.arange(1, embed + 1).float().pow(-0.5)
    centres = normal(200, embed)
    member = torch.randint(200, (texts,), generator=generator)
    pool = (centres[member] + normal(texts, embed)) * spectrum + 0.3
    directions = (centres[member[:signals]] * 0.5 + normal(signals, embed)) * spectrum
    return torch.nn.functional.normalize(directions), torch.nn.functional.normalize(pool)


def product_seconds(screen: Screen, directions: torch.Tensor, dtype: torch.dtype) -> float:
    """The floor of a step: the bare product in one precision, and the maximum of every row."""
    left = directions[:512].to(dtype)
    right = torch.zeros(screen.rows, directions.shape[1], dtype=dtype, device=directions.device)
    right[: screen.atoms.shape[0]] = screen.atoms
    device = directions.device.type
    return median(timed(lambda: torch.mm(left, right.T).amax(dim=1), device)[0] for _ in range(5))


def reference_seconds(
    directions: torch.Tensor, atoms: torch.Tensor, codes: SparseCodes
) -> tuple[list[float], list[float]]:
    """Seconds of scikit-learn for each of a few signals, by two routes; asserts that the supports are ours.

    The first is what SparseCoder does (`orthogonal_mp_gram`), in float32: in float64 its Gram matrix and the
    copy that it makes for every signal would take 14 GB at 30,000 texts. The Gram matrix itself, which
    SparseCoder computes once a call, is left out. The second is `orthogonal_mp` without a Gram matrix, in
    float64; its supports are the ones to agree with, since rounding decides near-ties in float32.
    """
    from sklearn.linear_model import orthogonal_mp, orthogonal_mp_gram

    dictionary = atoms.float().numpy()
    columns = np.asfortranarray(atoms.numpy().T)
    gram = dictionary @ dictionary.T
    nonzero = codes.indices.shape[1]
    with_gram, direct = [], []
    for row, signal in enumerate(directions.numpy()):
        products = dictionary @ signal
        with_gram.append(timed(lambda p=products: orthogonal_mp_gram(gram, p, n_nonzero_coefs=nonzero))[0])
        wide = signal.astype(np.float64)
        seconds, exact = timed(lambda w=wide: orthogonal_mp(columns, w, n_nonzero_coefs=nonzero))
        direct.append(seconds)
        if set(np.flatnonzero(exact)) != set(codes.indices[row].cpu().tolist()):
            raise AssertionError(f"signal {row}: the support differs from scikit-learn's")
        fitted = codes.coefficients[row].cpu().numpy()
        np.testing.assert_allclose(fitted, exact[codes.indices[row].cpu()], rtol=1e-5, atol=1e-6 * abs(fitted).max())
    return with_gram, direct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=30_000)
    parser.add_argument("--embed", type=int, default=512)
    parser.add_argument("--nonzero", type=int, default=128)
    parser.add_argument("--signals", type=int, default=512)
    parser.add_argument("--reference", type=int, default=2, help="signals given to scikit-learn; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--nonnegative", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()

    directions, texts = correlated_problem(args.texts, args.embed, args.signals, args.seed)
    directions = directions.to(args.device)
    # Once small: the first call measures which precision multiplies fastest.
    sparse_decompose(directions[:8], texts, 2)
    found: list[SparseCodes] = []

    def ours() -> None:
        found[:] = [sparse_decompose(directions, texts, args.nonzero, nonnegative=args.nonnegative)]

    runs = [timed(ours, args.device)[0] / args.signals for _ in range(args.repeats)]
    peak = gpu_memory_gib() if args.device == "cuda" else memory_gib()
    codes = found[0]
    screen = Screen(codes.dictionary)
    floors = {name: product_seconds(screen, directions, getattr(torch, name)) for name in ("float32", "bfloat16")}
    step = median(runs) * min(args.signals, 512) / args.nonzero
    figures: dict[str, object] = {
        "device": args.device,
        "texts": args.texts,
        "embed": args.embed,
        "nonzero": args.nonzero,
        "signals": args.signals,
        "ms_per_signal": round(1e3 * median(runs), 3),
        "minutes_for_9216": round(median(runs) * NEURONS / 60, 2),
        "peak_gib": peak,
        "ms_per_step_of_a_block": round(1e3 * step, 3),
        "ms_product_float32": round(1e3 * floors["float32"], 3),
        "ms_product_bfloat16": round(1e3 * floors["bfloat16"], 3),
        "share_of_floor": round(min(floors.values()) / step, 3),
    }
    if args.reference and not args.nonnegative:
        atoms = text_atoms(texts, "unit")
        with_gram, direct = reference_seconds(directions[: args.reference].cpu(), atoms, codes)
        figures |= {
            "sparse_coder_s_per_signal": round(median(with_gram), 2),
            "times_sparse_coder": round(median(with_gram) / median(runs)),
            "orthogonal_mp_s_per_signal": round(median(direct), 3),
            "times_orthogonal_mp": round(median(direct) / median(runs), 1),
            "equal_supports": args.reference,
        }
    record("sparse", figures, device=args.device)


if __name__ == "__main__":
    main()
