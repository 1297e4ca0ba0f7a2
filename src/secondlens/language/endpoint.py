"""Any endpoint that speaks OpenAI's chat completions, through the `openai` client (extra: llm).

The key and the address come from the environment alone, OPENAI_API_KEY and OPENAI_BASE_URL; neither is written down.
"""

import os

from secondlens.errors import LanguageError, MissingExtra

TIMEOUT = 120.0
"""Seconds for one answer; the client tries again twice after time-outs, 429 and 5xx."""


class EndpointModel:
    """A model of an endpoint, by the endpoint's own name for it."""

    def __init__(self, model: str, max_tokens: int, temperature: float, timeout: float = TIMEOUT) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai", "llm", f"the language model openai:{model}") from error
        if not os.environ.get("OPENAI_API_KEY"):
            raise LanguageError(
                "no key for the language model: set OPENAI_API_KEY (any text, for an endpoint that asks for none), "
                "and OPENAI_BASE_URL for an endpoint other than OpenAI's"
            )
        self.name = f"openai:{model}"
        self.model = model
        self.max_tokens = max_tokens
        self.temperature = temperature
        self._openai = openai
        self._client = openai.OpenAI(timeout=timeout)

    def complete(self, prompt: str, seed: int) -> str:
        """One user message, one answer."""
        openai = self._openai
        where = f"{self.model} at {self._client.base_url.host}"
        try:
            answer = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                seed=seed,
            )
        except openai.AuthenticationError as error:
            raise LanguageError(f"the endpoint of {where} refuses the key in OPENAI_API_KEY") from error
        except openai.NotFoundError as error:
            raise LanguageError(f"the endpoint knows no {where}; check the model's name and OPENAI_BASE_URL") from error
        except openai.APITimeoutError as error:
            raise LanguageError(f"no answer of {where} in time; try again, what was finished is kept") from error
        except openai.APIConnectionError as error:
            raise LanguageError(f"cannot reach {where}; check OPENAI_BASE_URL and the network") from error
        except openai.OpenAIError as error:
            raise LanguageError(f"{where} failed: {error}") from error
        choices = getattr(answer, "choices", None)
        text = choices[0].message.content if choices else None
        if not isinstance(text, str):
            raise LanguageError(f"{where} gave no chat answer; is it an OpenAI-compatible endpoint?")
        return text
