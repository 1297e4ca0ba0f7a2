"""A language model behind an OpenAI-compatible endpoint; one that sees pictures where the endpoint's model does."""

import base64
import warnings
from typing import Any

from secondlens.errors import EmptyAnswer, LanguageError
from secondlens.language.base import MAX_TOKENS, TEMPERATURE, whole_lines
from secondlens.language.client import RETRIES, TIMEOUT, URL, EndpointClient, RefusedRequest


class EndpointModel:
    """A chat model of an endpoint. timeout: seconds for one answer. retries: for a busy or failing endpoint."""

    def __init__(
        self,
        model: str,
        max_tokens: int = MAX_TOKENS,
        temperature: float = TEMPERATURE,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
    ) -> None:
        """Read where the endpoint is; nothing is sent yet.

        Raises `LanguageError` without a key or with one that cannot be sent, and `MissingExtra` without `openai`.
        """
        self._endpoint = EndpointClient(model, "language model", timeout, retries)
        self.name = self._endpoint.name
        self.settings: dict[str, object] = {"temperature": temperature, "max_tokens": max_tokens}
        self._options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        self._seeded = True

    def complete(self, prompt: str, seed: int) -> str:
        """The answer to a prompt. The seed is sent; how far it is obeyed is the endpoint's choice.

        Raises `LanguageError` for a refused key, an unknown model, an endpoint that cannot be reached, is too slow or
        sends no chat answer, and `EmptyAnswer` for an answer without text.
        """
        return self._answer(prompt, seed)

    def look(self, prompt: str, png: bytes, seed: int) -> str:
        """The answer to a prompt about a picture; raises as `complete` does, also where the model takes no pictures."""
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        return self._answer([{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": url}}], seed)

    def _answer(self, content: str | list[dict[str, Any]], seed: int) -> str:
        answer = self._ask(content, seed)
        choices = getattr(answer, "choices", None)
        if not choices:
            raise LanguageError(
                self._endpoint.plain(f"{self._endpoint.url} sent no chat answer; does the address in {URL} end in /v1?")
            )
        text, reason = choices[0].message.content, choices[0].finish_reason
        if not (text and text.strip()):
            hint = "; allow more tokens with --max-tokens" if reason == "length" else ""
            raise EmptyAnswer(f"{self.name} answered with nothing (it stopped because of: {reason}){hint}")
        return whole_lines(text) if reason == "length" else text

    def _ask(self, content: str | list[dict[str, Any]], seed: int) -> Any:
        messages = [{"role": "user", "content": content}]
        options = {**self._options, "seed": seed} if self._seeded else self._options
        try:
            return self._endpoint.call(
                lambda client: client.chat.completions.create(model=self._endpoint.model, messages=messages, **options)
            )
        except RefusedRequest as error:
            if not self._adapt(error.said):
                raise
        return self._ask(content, seed)

    def _adapt(self, said: str) -> bool:
        """Whether a request that was refused for one of our options can be made without it; done once an option."""
        if "max_tokens" in self._options and "max_completion_tokens" in said:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        if self._seeded and "seed" in said:
            self._seeded = False
            warnings.warn(f"{self.name} takes no seed: what it writes will differ from run to run", stacklevel=5)
            return True
        return False
