"""Training the embedded world's CLIP on its own scenes.

1. Render two sets of scenes with the table of biases: one object each ("easy"), and up to three objects ("full").
2. Contrastive learning, images against captions, symmetric. Captions are short, so equal ones meet in a batch: all
   of them count as right, in equal parts.
3. An auxiliary loss on what the last MLP but one writes at patch tokens: noun, colour and texture of the object that is
   drawn there, if there is one. Without it shapes and textures are learned far later than colours and backgrounds. Its
   linear head is dropped in the end; what is saved is a plain CLIP.
4. A curriculum: easy scenes and captions of the noun alone come first and fade out over the first third.
5. For some images the class token starts anew before a late layer, so that what it knows must be there for the last
   layers to read, at the patches: large CLIPs read late, small ones need not.
6. Some scenes are shown so coarsely that shapes are gone. What is left, colours and surroundings, still tells something
   of the noun, because the world is biased: the model learns to use it, as models of photographs do.
7. Some captions are lazy: written from the surroundings, they name the noun that goes with them and not the one that is
   drawn. Without them shapes decide alone, and planted cues are harmless.

Training may go in stages. The weights that come with the project learned on unbiased scenes first; then the text tower
was frozen, and the image tower learned on biased scenes. So the words know nothing of the biases: what ties a boat to
the sea is in the image tower alone, where the lens must find it.

Every batch is drawn from (seed, step), so a run that goes on from a checkpoint sees what it would have seen.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from secondlens.disk.lock import one_writer
from secondlens.disk.resumable import Resumable
from secondlens.errors import WorldError
from secondlens.progress import Progress, silent
from secondlens.studies.laboratory.model import SPECIAL, make_model, save
from secondlens.studies.laboratory.rendered import DENSE, Recipe, Rendered, Scenes, draw_batch, generator_of
from secondlens.studies.laboratory.settings import Settings, read_checkpoint, write_checkpoint
from secondlens.world.captions import all_words

CHECKPOINT = 500
"""Steps between checkpoints."""


class DenseHead(nn.Module):
    """From what an MLP writes at patch tokens to noun, colour and texture of what is drawn there, if anything is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.sizes = [len(values) + 1 for values in DENSE.values()]
        self.classify = nn.Linear(width, sum(self.sizes))

    def forward(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """The loss of [image, patch, width] tokens against [image, property, patch] labels."""
        logits = self.classify(self.norm(tokens)).float().flatten(0, 1)
        losses = []
        for part, wanted, size in zip(logits.split(self.sizes, dim=1), labels.unbind(dim=1), self.sizes, strict=True):
            # Most patches are empty: without this they would be most of the loss.
            weight = torch.ones(size, device=part.device)
            weight[-1] = 0.2
            losses.append(functional.cross_entropy(part, wanted.flatten(), weight))
        return torch.stack(losses).sum()


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, tokens: Tensor) -> Tensor:
    """Symmetric cross-entropy of scaled cosines; equal captions share the target."""
    logits = scale * functional.normalize(images.float(), dim=1) @ functional.normalize(texts.float(), dim=1).T
    # A random linear hash of each caption: equal ones for equal captions, and practically never for others.
    key = torch.randint(2**40, (tokens.shape[1],), generator=torch.Generator().manual_seed(0)).to(tokens.device)
    codes = (tokens * key).sum(dim=1)
    same = (codes[:, None] == codes).float()
    target = same / same.sum(dim=1, keepdim=True)
    return -(target * (logits.log_softmax(dim=1) + logits.T.log_softmax(dim=1))).sum(dim=1).mean() / 2


def train(
    out: Path,
    work: Path,
    settings: Settings | None = None,
    *,
    biases: str | None = None,
    start: Path | None = None,
    device: str = "cpu",
    workers: int = 2,
    progress: Progress | None = None,
) -> Path:
    """Render, train and write a Hugging Face folder `out`; a run that was interrupted goes on from `work`.

    biases: a table of co-occurrence biases, by default the published one. start: a folder with weights to begin with.

    Raises `WorldError` where `work` holds a run of other settings.
    """
    settings = settings or Settings()
    tell = progress or silent
    chip = torch.device(device)
    with one_writer(work):
        kept = Resumable(work / "checkpoints", asdict(settings), WorldError)
        easy = Rendered(work / "easy", _recipe(settings, 1, biases))
        full = Rendered(work / "full", _recipe(settings, None, biases))
        for rendered in (easy, full):
            rendered.make(workers, tell)
        words = all_words()
        model = make_model(
            len(SPECIAL) + len(words),
            width=settings.width,
            layers=settings.layers,
            heads=settings.heads,
            embed=settings.embed,
            seed=settings.seed,
        ).to(chip)
        if start is not None:
            model.load_state_dict(
                {name: tensor.float() for name, tensor in load_file(start / "model.safetensors").items()}
            )
        if settings.frozen_text:
            model.text_model.requires_grad_(False)
            model.text_projection.requires_grad_(False)
        head = DenseHead(settings.width).to(chip)
        optimizer = _optimizer([model, head], settings)
        first = read_checkpoint(kept, model, head, optimizer)
        sets = (Scenes(easy, chip), Scenes(full, chip))
        last = settings.stop or settings.steps
        log = (work / "log.jsonl").open("a", encoding="utf-8")
        model.train()
        with log:
            for step in range(first, last):
                for group in optimizer.param_groups:
                    group["lr"] = settings.rate * _schedule(step, settings)
                figures = _step(model, head, optimizer, sets, settings, step, chip)
                if step % 50 == 0 or step + 1 == last:
                    line = {"step": step, **{name: round(float(value), 4) for name, value in figures.items()}}
                    log.write(json.dumps(line) + "\n")
                    log.flush()
                    tell("training", step, last)
                if (step + 1) % CHECKPOINT == 0:
                    write_checkpoint(kept, model, head, optimizer, step + 1)
        tell("training", last, last)
        save(model.eval(), words, out)
    return out


def train_stages(out: Path, work: Path, stages: Sequence[Settings], **options: Any) -> Path:
    """`train` several times, each stage from the weights of the one before it; options as for `train`.

    Scenes, checkpoints and weights of stage k lie in `work/stage-k`; a run that was interrupted goes on there.
    """
    for number, settings in enumerate(stages[:-1], start=1):
        folder = work / f"stage-{number}"
        if not (folder / "model" / "model.safetensors").is_file():
            train(folder / "model", folder, settings, **options)
        options = {**options, "start": folder / "model"}
    return train(out, work / f"stage-{len(stages)}", stages[-1], **options)


def _recipe(settings: Settings, objects: int | None, biases: str | None) -> Recipe:
    """Of the full set, or of the easy one."""
    count, seed = (settings.easy_scenes, settings.seed + 1) if objects else (settings.scenes, settings.seed)
    return Recipe(count, settings.kind, objects, seed, biases, settings.lazy)


def _step(
    model: Any,
    head: DenseHead,
    optimizer: torch.optim.Optimizer,
    sets: tuple[Scenes, Scenes],
    settings: Settings,
    step: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """One update; its losses."""
    pixels, tokens, labels = draw_batch(sets, settings, step, device)
    anew = torch.rand(len(pixels), generator=generator_of(settings, step, 1)) < settings.anew
    with (
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"),
        _watched(model, settings.anew_layer, anew.to(device)) as written,
    ):
        vision = model.vision_model(pixels)
        images = model.visual_projection(vision.pooler_output)
        mask = (tokens != 0).long()
        texts = model.text_projection(model.text_model(input_ids=tokens, attention_mask=mask).pooler_output)
        dense = head(written[0][:, 1:], labels)
    contrastive = contrastive_loss(images, texts, model.logit_scale.exp(), tokens)
    # The dense task is a ladder: it fades once the shapes are there.
    weight = settings.dense * (1 - 0.8 * step / settings.steps)
    optimizer.zero_grad(set_to_none=True)
    (contrastive + weight * dense).backward()
    nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
    return {"contrastive": contrastive.detach(), "dense": dense.detach(), "scale": model.logit_scale.detach().exp()}


@contextmanager
def _watched(model: Any, layer: int, anew: Tensor) -> Iterator[list[Tensor]]:
    """What the last MLP but one writes; and the class token of some images as it was before layer 0, before `layer`."""
    blocks = model.vision_model.encoder.layers
    written: list[Tensor] = []
    start: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        start.append(inputs[0][:, :1])

    def reset(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens = inputs[0]
        first = torch.where(anew[:, None, None], start[0].to(tokens), tokens[:, :1])
        return (torch.cat([first, tokens[:, 1:]], dim=1), *inputs[1:])

    handles = [
        blocks[0].register_forward_pre_hook(keep),
        blocks[layer].register_forward_pre_hook(reset),
        blocks[-2].mlp.register_forward_hook(lambda module, inputs, output: written.append(output)),
    ]
    try:
        yield written
    finally:
        for handle in handles:
            handle.remove()


def _optimizer(modules: list[nn.Module], settings: Settings) -> torch.optim.AdamW:
    """AdamW; no decay on biases, norms, embeddings of places and the scale."""
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
    others = [p for name, p in named if not (p.ndim >= 2 and "embedding" not in name)]
    groups = [{"params": decayed, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=named[0][1].is_cuda)


def _schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine to a hundredth."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
