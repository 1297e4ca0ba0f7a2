"""Where a training stands, on disk: safetensors and a note that is written last."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from secondlens.errors import WorldError
from secondlens.studies.laboratory.settings import Settings


def write_checkpoint(
    work: Path, settings: Settings, model: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    """Weights and moments as safetensors; the note with the step last, by rename."""
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    part = work / "checkpoint.partial"
    save_file({name: tensor.detach().cpu().clone() for name, tensor in state.items()}, part)
    part.replace(work / f"checkpoint-{step}.safetensors")
    note = work / "checkpoint.partial.json"
    note.write_text(json.dumps({"step": step, "settings": asdict(settings)}), encoding="utf-8")
    note.replace(work / "checkpoint.json")
    for old in work.glob("checkpoint-*.safetensors"):
        if old.name != f"checkpoint-{step}.safetensors":
            old.unlink()


def read_checkpoint(
    work: Path, settings: Settings, model: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Take up the state of an interrupted run; the step to go on from. Raises `WorldError` for other settings."""
    note = work / "checkpoint.json"
    if not note.is_file():
        return 0
    found = json.loads(note.read_text(encoding="utf-8"))
    if found["settings"] != asdict(settings):
        raise WorldError(f"{work} holds a run of other settings; give them, or another folder")
    state = load_file(work / f"checkpoint-{found['step']}.safetensors")
    model.load_state_dict({n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")})
    head.load_state_dict({n.removeprefix("head."): t for n, t in state.items() if n.startswith("head.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.startswith("optimizer."):
            _, number, what = name.split(".")
            moments.setdefault(int(number), {})[what] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(found["step"])
