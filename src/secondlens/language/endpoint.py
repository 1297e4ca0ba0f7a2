"""A language model behind an OpenAI-compatible endpoint.

Where it is and the key to it come from `OPENAI_BASE_URL` and `OPENAI_API_KEY` and from nowhere else. The key is sent
to that endpoint and kept out of settings, messages and files.
"""

import os
import warnings
from typing import Any

from secondlens.errors import EmptyAnswer, LanguageError, MissingExtra
from secondlens.language.base import MAX_TOKENS, TEMPERATURE, whole_lines

KEY = "OPENAI_API_KEY"
URL = "OPENAI_BASE_URL"
OWN_URL = "https://api.openai.com/v1"
TIMEOUT = 120.0
RETRIES = 4
"""Times the client tries again, with growing pauses, when the endpoint is busy or fails (429, 5xx, no connection)."""


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
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai", "llm", f"the language model openai:{model}") from error
        self.name = f"openai:{model}"
        self.settings: dict[str, object] = {"temperature": temperature, "max_tokens": max_tokens}
        self._model = model
        self._timeout = timeout
        self._key = os.environ.get(KEY, "").strip()
        self._url = os.environ.get(URL, "").strip() or OWN_URL
        if not self._key:
            raise LanguageError(
                f"expected a key for {self.name} in the environment variable {KEY}, which is not set; a server that "
                "needs no key takes any text"
            )
        if not (self._key.isascii() and self._key.isprintable() and " " not in self._key):
            raise LanguageError(f"the key in {KEY} holds white space or characters that cannot be sent; set it again")
        self._options: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
        self._seeded = True
        try:
            self._client: Any = openai.OpenAI(
                api_key=self._key, base_url=self._url, timeout=timeout, max_retries=retries
            )
        except Exception as error:
            raise LanguageError(self._plain(f"cannot use the address in {URL}: {error}")) from None

    def complete(self, prompt: str, seed: int) -> str:
        """The answer to a prompt. The seed is sent; how far it is obeyed is the endpoint's choice.

        Raises `LanguageError` for a refused key, an unknown model, an endpoint that cannot be reached, is too slow or
        sends no chat answer, and `EmptyAnswer` for an answer without text.
        """
        answer = self._ask(prompt, seed)
        choices = getattr(answer, "choices", None)
        if not choices:
            raise LanguageError(self._plain(f"{self._url} sent no chat answer; does the address in {URL} end in /v1?"))
        text, reason = choices[0].message.content, choices[0].finish_reason
        if not (text and text.strip()):
            hint = "; allow more tokens with --max-tokens" if reason == "length" else ""
            raise EmptyAnswer(f"{self.name} answered with nothing (it stopped because of: {reason}){hint}")
        return whole_lines(text) if reason == "length" else text

    def _ask(self, prompt: str, seed: int) -> Any:
        import openai

        messages = [{"role": "user", "content": prompt}]
        try:
            options = {**self._options, "seed": seed} if self._seeded else self._options
            return self._client.chat.completions.create(model=self._model, messages=messages, **options)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not self._adapt(error):
                raise LanguageError(self._plain(f"{self._url} refused the request: {error}")) from None
        except openai.AuthenticationError:
            raise LanguageError(self._plain(f"{self._url} refused the key in {KEY} (401); check both")) from None
        except openai.PermissionDeniedError as error:
            raise LanguageError(self._plain(f"the key in {KEY} may not use {self.name} (403): {error}")) from None
        except openai.NotFoundError as error:
            raise LanguageError(
                self._plain(f"{self._url} knows no model {self._model!r}, or is not the right address (404): {error}")
            ) from None
        except openai.APITimeoutError:
            raise LanguageError(
                self._plain(f"{self._url} gave no answer within {self._timeout:g} seconds; try again")
            ) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise LanguageError(
                self._plain(f"cannot reach {self._url} ({cause}); check the network and the address in {URL}")
            ) from None
        except openai.RateLimitError as error:
            raise LanguageError(
                self._plain(f"{self._url} is busy or the account has no more quota (429): {error}")
            ) from None
        except (openai.OpenAIError, ValueError) as error:
            raise LanguageError(self._plain(f"{self._url} failed: {error}")) from None
        return self._ask(prompt, seed)

    def _adapt(self, error: Any) -> bool:
        """Whether a request that was refused for one of our options can be made without it; done once an option."""
        said = f"{getattr(error, 'param', '')} {error}"
        if "max_tokens" in self._options and "max_completion_tokens" in said:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        if self._seeded and "seed" in said:
            self._seeded = False
            warnings.warn(f"{self.name} takes no seed: what it writes will differ from run to run", stacklevel=4)
            return True
        return False

    def _plain(self, message: str) -> str:
        """A message without the key, whatever the endpoint quoted in it, and without a password in the address."""
        from urllib.parse import urlsplit

        try:
            secrets = [self._key, urlsplit(self._url).password, urlsplit(self._url).query]
        except ValueError:
            secrets = [self._key, self._url]
        for secret in secrets:
            message = message.replace(secret, "***") if secret else message
        return message
