"""A language model behind an OpenAI-compatible endpoint; one that sees pictures where the endpoint's model does.

Errors are ours, and none holds the key.

Where the endpoint is and the key to it come from `OPENAI_BASE_URL` and `OPENAI_API_KEY` and from nowhere else. The key
is sent to that endpoint and kept out of settings, messages and files.
"""

import base64
import os
import warnings
from collections.abc import Callable
from typing import Any

from secondlens.data.language.base import MAX_TOKENS, TEMPERATURE, whole_lines
from secondlens.errors import EmptyAnswer, LanguageError, MissingExtra

KEY = "OPENAI_API_KEY"
URL = "OPENAI_BASE_URL"
OWN_URL = "https://api.openai.com/v1"
TIMEOUT = 120.0
RETRIES = 4
"""Times the client tries again, with growing pauses, when the endpoint is busy or fails (429, 5xx, no connection)."""


class RefusedRequest(LanguageError):
    """An endpoint refused a request as such (400, 422). said: its words and the option it named."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self.said = said


class EndpointClient:
    """Requests for one model of an endpoint. name: its reference. timeout: seconds for one answer."""

    def __init__(self, model: str, kind: str, timeout: float = TIMEOUT, retries: int = RETRIES) -> None:
        """Read where the endpoint is; nothing is sent yet. kind: what the model is, for messages.

        Raises `LanguageError` without a key or with one that cannot be sent, and `MissingExtra` without `openai`.
        """
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai", "llm", f"the {kind} openai:{model}") from error
        self.name = f"openai:{model}"
        self.model = model
        self._timeout = timeout
        self._key = os.environ.get(KEY, "").strip()
        self.url = os.environ.get(URL, "").strip() or OWN_URL
        if not self._key:
            raise LanguageError(
                f"expected a key for {self.name} in the environment variable {KEY}, which is not set; a server that "
                "needs no key takes any text"
            )
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            raise LanguageError(f"the key in {KEY} holds white space or characters that cannot be sent; set it again")
        try:
            self._client: Any = openai.OpenAI(
                api_key=self._key, base_url=self.url, timeout=timeout, max_retries=retries
            )
        except Exception as error:
            raise LanguageError(self.plain(f"cannot use the address in {URL}: {error}")) from None

    def call(self, ask: Callable[[Any], Any]) -> Any:
        """What `ask` gets from the `openai.OpenAI` client.

        Raises `RefusedRequest` for a request that the endpoint does not take, `LanguageError` for a refused key, an
        unknown model, an endpoint that cannot be reached, is too slow, busy or failing after all tries.
        """
        import openai

        try:
            return ask(self._client)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            said = f"{getattr(error, 'param', '')} {error}"
            raise RefusedRequest(self.plain(f"{self.url} refused the request: {error}"), self.plain(said)) from None
        except openai.AuthenticationError:
            raise LanguageError(self.plain(f"{self.url} refused the key in {KEY} (401); check both")) from None
        except openai.PermissionDeniedError as error:
            raise LanguageError(self.plain(f"the key in {KEY} may not use {self.name} (403): {error}")) from None
        except openai.NotFoundError as error:
            raise LanguageError(
                self.plain(f"{self.url} knows no model {self.model!r}, or is not the right address (404): {error}")
            ) from None
        except openai.APITimeoutError:
            raise LanguageError(
                self.plain(f"{self.url} gave no answer within {self._timeout:g} seconds; try again")
            ) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise LanguageError(
                self.plain(f"cannot reach {self.url} ({cause}); check the network and the address in {URL}")
            ) from None
        except openai.RateLimitError as error:
            raise LanguageError(
                self.plain(f"{self.url} is busy or the account has no more quota (429): {error}")
            ) from None
        except (openai.OpenAIError, ValueError) as error:
            raise LanguageError(self.plain(f"{self.url} failed: {error}")) from None

    def plain(self, message: str) -> str:
        """A message without the key, whatever the endpoint quoted in it, and without a password in the address."""
        from urllib.parse import urlsplit

        try:
            secrets = [self._key, urlsplit(self.url).password, urlsplit(self.url).query]
        except ValueError:
            secrets = [self._key, self.url]
        for secret in secrets:
            message = message.replace(secret, "***") if secret else message
        return message


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
