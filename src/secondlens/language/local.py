"""A language model on this machine, through transformers."""

from typing import Any

import torch

from secondlens.errors import LanguageError
from secondlens.models.preprocessing import quiet


class LocalModel:
    """A causal language model of a folder or of the Hub, with its chat template where it has one."""

    def __init__(self, location: str, max_tokens: int, temperature: float) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(location)
                self._model: Any = AutoModelForCausalLM.from_pretrained(location, use_safetensors=True).eval()
        except Exception as error:
            raise LanguageError(f"cannot load the language model {location}: {error}") from error
        self.name = f"hf:{location}"
        self.max_tokens = max_tokens
        self.temperature = temperature

    @torch.no_grad()
    def complete(self, prompt: str, seed: int) -> str:
        """Sampled at the temperature, greedy at zero. The seed is set for this answer alone."""
        if self._tokenizer.chat_template is not None:
            messages = [{"role": "user", "content": prompt}]
            prompt = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        tokens = self._tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
        chosen: dict[str, Any] = {"do_sample": self.temperature > 0}
        if self.temperature > 0:
            chosen["temperature"] = self.temperature
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            out = self._model.generate(**tokens, max_new_tokens=self.max_tokens, **chosen)
        return str(self._tokenizer.decode(out[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))
