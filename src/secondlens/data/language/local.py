"""A language model of `transformers` on this machine, and one that sees pictures."""

import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from secondlens.data.language.base import MAX_TOKENS, TEMPERATURE, whole_lines
from secondlens.errors import EmptyAnswer, LanguageError


class LocalModel:
    """A causal language model from a folder or the Hugging Face Hub, asked by its chat template where it has one."""

    def __init__(
        self,
        location: str,
        max_tokens: int = MAX_TOKENS,
        temperature: float = TEMPERATURE,
        device: str | None = None,
    ) -> None:
        """Load it, from safetensors only. device: default the GPU where there is one.

        Raises `LanguageError` where there is no such model or it cannot be loaded.
        """
        folder = Path(location).expanduser()
        if not folder.is_dir() and (location.startswith(("/", "./", "../", "~")) or location.count("/") > 1):
            raise LanguageError(f"no such folder of a language model: {folder} (from the reference 'hf:{location}')")
        self.name = f"hf:{location}"
        self.settings: dict[str, object] = {"temperature": temperature, "max_tokens": max_tokens}
        self._max_tokens, self._temperature = max_tokens, temperature
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        try:
            model = self._load(str(folder) if folder.is_dir() else location)
        except Exception as error:  # transformers raises many kinds, also bare `Exception`
            raise LanguageError(f"cannot load the language model {self.name}: {error}") from error
        self._model = model.to(self._device).eval()

    def complete(self, prompt: str, seed: int) -> str:
        """The answer to a prompt; the same for the same seed on the same machine.

        Raises `LanguageError` for a prompt that is longer than the model's context, `EmptyAnswer` for no text.
        """
        return self._answer(self._encode(prompt), seed)

    def _answer(self, inputs: Any, seed: int) -> str:
        inputs = inputs.to(self._device)
        length = int(inputs["input_ids"].shape[1])
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        room = self._max_tokens if not context else min(self._max_tokens, context - length)
        if room < 1:
            raise LanguageError(f"the prompt has {length} tokens, the context of {self.name} {context}; shorten it")
        sampling = {"do_sample": True, "temperature": self._temperature} if self._temperature else {"do_sample": False}
        pad = self._tokenizer.pad_token_id
        pad = self._tokenizer.eos_token_id if pad is None else pad
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(seed)
            found = self._model.generate(**inputs, max_new_tokens=room, pad_token_id=pad, **sampling)[0, length:]
        text = str(self._tokenizer.decode(found, skip_special_tokens=True))
        if not text.strip():
            raise EmptyAnswer(f"{self.name} answered with nothing")
        ends = self._model.generation_config.eos_token_id
        ended = int(found[-1]) in (ends if isinstance(ends, list) else [ends])
        return text if ended or len(found) < room else whole_lines(text)

    def _load(self, source: str) -> Any:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(source)
        return AutoModelForCausalLM.from_pretrained(source, dtype="auto", use_safetensors=True)

    def _encode(self, prompt: str) -> Any:
        if not getattr(self._tokenizer, "chat_template", None):
            return self._tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        return self._tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )


class LocalVisionModel(LocalModel):
    """A model of `transformers` that answers questions about a picture; it has a chat template and a processor."""

    def look(self, prompt: str, png: bytes, seed: int) -> str:
        """The answer to a prompt about a picture; raises as `complete` does, and for a model that takes none."""
        picture = Image.open(io.BytesIO(png)).convert("RGB")
        content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
        try:
            inputs = self._processor.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        except Exception as error:  # a processor without a template, or one that takes no pictures
            raise LanguageError(f"{self.name} cannot be shown a picture: {error}") from error
        return self._answer(inputs, seed)

    def _load(self, source: str) -> Any:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._processor: Any = AutoProcessor.from_pretrained(source)
        self._tokenizer = self._processor.tokenizer
        return AutoModelForImageTextToText.from_pretrained(source, dtype="auto", use_safetensors=True)
