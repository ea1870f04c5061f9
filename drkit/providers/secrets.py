"""Resolve `secret://` references, and take every secret that was ever handed out back out of logs and errors.

- `secret://file/PATH`: content of the file `/PATH`, without a final line break
- `secret://env/NAME`: an environment variable of the runner
- `secret://aws-sm/REGION/NAME`: AWS Secrets Manager in that region, through the site's endpoint

Nothing is cached: a secret that was rotated during a long run is the new one at the next use.
"""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

from drkit.errors import PreflightFailed
from drkit.model.environment import Environment, SecretRef
from drkit.providers.credentials import Clients, CredentialsExpired

REDACTED: Final = "[redacted]"
_FORM_MIN: Final = 6
_KINDS: Final = "secret://file/PATH, secret://env/NAME or secret://aws-sm/REGION/NAME"


class Secrets:
    """The secrets of one environment, as a step's context wants them. Safe to use from any thread."""

    def __init__(self, environment: Environment | None = None) -> None:
        self._environment = environment
        self._guard = threading.Lock()
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._clients = Clients(environment.aws_credentials if environment is not None else None, self)

    def get(self, ref: SecretRef | str) -> str:
        """The secret. PreflightFailed if it cannot be had; the message names the reference, never the value."""
        text = ref.ref if isinstance(ref, SecretRef) else ref
        kind, _, rest = text.removeprefix("secret://").partition("/")
        if not text.startswith("secret://") or not rest or kind not in {"file", "env", "aws-sm"}:
            raise PreflightFailed(f'"{text}" is not a reference to a secret', hint=f"write {_KINDS}")
        value = {"file": self._file, "env": self._variable, "aws-sm": self._aws}[kind](text, rest)
        if not value:
            raise PreflightFailed(f"{text} is empty")
        self.hide(value)
        return value

    def hide(self, value: str) -> None:
        """From now on redact this too: a credential that did not come from a reference (a session token)."""
        with self._guard:
            forms = self._forms | set(_forms(value))
            if forms != self._forms:
                self._forms = forms
                self._pattern = re.compile("|".join(map(_matcher, sorted(forms, key=len, reverse=True))))

    def redact(self, text: str) -> str:
        """`text` without any secret that was handed out, be it plain, URL-encoded, in base64 or in JSON."""
        pattern = self._pattern
        return text if pattern is None else pattern.sub(REDACTED, text)

    def _file(self, text: str, rest: str) -> str:
        path = Path("/" + rest)
        try:
            return _without_end(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PreflightFailed(f"{text} cannot be read: {error}", hint=f"ls -l {path}") from error

    def _variable(self, text: str, rest: str) -> str:
        try:
            return os.environ[rest]
        except KeyError as error:
            raise PreflightFailed(f"{text}: the variable {rest} is not set", hint=f"export {rest}=…") from error

    def _aws(self, text: str, rest: str) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        region, _, name = rest.partition("/")
        if not name:
            raise PreflightFailed(f"{text} names no secret", hint="write secret://aws-sm/REGION/NAME")
        own = self._environment.aws_credentials if self._environment is not None else None
        if own is not None and own.ref == text:
            raise PreflightFailed(f"{text} cannot be read with the credentials that are kept in it")
        sites = self._environment.sites if self._environment is not None else ()
        try:
            answer: dict[str, Any] = self._clients.ask(
                lambda client: client.get_secret_value(SecretId=name),
                region=region, service="secretsmanager", writes=False,
                endpoint=next((site.aws_endpoint for site in sites if site.name == region), None),
            )  # fmt: skip
        except (ClientError, BotoCoreError, CredentialsExpired) as error:
            raise PreflightFailed(
                f"{text} cannot be read: {str(error).splitlines()[0]}",
                hint=f"aws secretsmanager describe-secret --region {region} --secret-id {name}",
            ) from error
        return str(answer.get("SecretString") or "")


def _without_end(text: str) -> str:
    """A password file ends in a line break that is not part of the password; a key file's is part of the key."""
    return text[:-1] if text.endswith("\n") and "\n" not in text[:-1] else text


def _forms(value: str) -> Iterator[str]:
    """How a secret may appear in a log: itself, its lines, URL-encoded, JSON-escaped, inside base64 at any offset."""
    plain = [value]
    if "\n" in value:
        lines = map(str.strip, value.splitlines())
        plain += (line for line in lines if len(line) >= 16 and not line.startswith("-----"))
    for text in plain:
        yield text
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
    encoded = {quote(value), quote(value, safe=""), quote_plus(value)}
    for offset in range(3):
        # Inside a longer text (`user:secret`) only the middle is the secret's alone: the ends share bits with others.
        text = base64.b64encode(b"\0" * offset + value.encode()).decode().rstrip("=")
        middle = text[(0, 2, 3)[offset] : len(text) - (1 if (offset + len(value.encode())) % 3 else 0)]
        encoded |= {middle, middle.replace("+", "-").replace("/", "_")}
    yield from (form for form in encoded if len(form) >= _FORM_MIN and form != value)


def _matcher(form: str) -> str:
    """Short secrets only as whole words: redacting every `a` would leave no log. In JSON, `\\n` ends a word too."""
    escaped = re.escape(form)
    if len(form) >= _FORM_MIN:
        return escaped
    return rf"(?:(?<!\w)|(?<=\\[bfnrt])|(?<=\\u[0-9a-f]{{4}})){escaped}(?!\w)"
