"""What AWS calls are signed with, for as long as a run lasts: boto3 clients that are made anew with new credentials.

Roles, web identities, processes and instance profiles are refreshed by botocore itself. Temporary credentials that
are only written down (`aws_credentials` of an environment, a shared credentials file) are read again at their source
when they near their end, or when a call is refused as expired. Such a call is repeated once, and only if the refusal
proves that nothing was done: expired credentials are refused before anything is carried out, so that holds unless an
earlier attempt of the same call was left without an answer.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from drkit.errors import OutcomeUnknown, PreflightFailed, ShutOut
from drkit.model.credentials import Life, Renewal
from drkit.model.environment import SecretRef
from drkit.model.paper import on_loopback

APP_ID: Final = "drkit"
CONNECT_S, READ_S = 2.0, 5.0
#: Read again at the source when there is less left than this.
SOON_S: Final = 60.0
#: While credentials near their end still serve, their source is not asked for others more often than this.
AGAIN_S: Final = 1.0
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_VARIABLES: Final = {
    "AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY", "SessionToken": "AWS_SESSION_TOKEN",
    "Expiration": "AWS_CREDENTIAL_EXPIRATION",
}  # fmt: skip

T = TypeVar("T")


class Secrets(Protocol):
    """What is needed of the run's secrets."""

    def get(self, ref: SecretRef | str) -> str:
        """The secret, as it is now. PreflightFailed."""


@runtime_checkable
class Hides(Protocol):
    """Secrets that can be told of further ones."""

    def hide(self, value: str) -> None:
        """From now on redact this too."""


class CredentialsExpired(ShutOut):
    """AWS refused a call because its credentials are over, and their source gives no others. Nothing was done."""

    code = "E0531"

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the AWS credentials have expired, and {where} gives no new ones: renew them there, then try again",
            hint="aws sts get-caller-identity",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials that are written down. `expires`: seconds since the epoch; None: not said."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False)
    expires: float | None


class Clients:
    """boto3 clients of one environment, all signed with the same credentials. Safe to use from any thread."""

    def __init__(self, ref: SecretRef | None = None, secrets: Secrets | None = None) -> None:
        """`ref`: where the credentials are written down; None: the usual chain."""
        self._ref, self._secrets = ref, secrets
        self._guard = threading.Lock()  # sessions are not thread-safe, clients are
        self._session: Any = None
        self._keys: Keys | None = None
        self._generation = 0
        self._tried = 0.0
        self._clients: dict[tuple[str, str, str | None, int], Any] = {}

    def ask(
        self, call: Callable[[Any], T], *, region: str, service: str, endpoint: str | None, writes: bool,
        attempts: int = 2,
    ) -> T:  # fmt: skip
        """`call(client)`, once more with new credentials if it was refused as expired.

        Errors of botocore as they are; CredentialsExpired if there are no new ones; OutcomeUnknown if a write was
        refused as expired and an earlier attempt of it had no answer.
        """
        if self._ref is None and on_loopback(endpoint):
            return call(self._client((region, service, endpoint, attempts))[1])
        from botocore.exceptions import ClientError

        self._renew_in_time()
        self._look_usable()
        generation, client = self._client((region, service, endpoint, attempts))
        try:
            return call(client)
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) not in _EXPIRED:
                raise
            if writes and error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0):
                raise OutcomeUnknown(
                    f"{service} in {region}: the credentials expired between two attempts; the first had no answer."
                ) from error
            if not self._renewed(generation):
                raise CredentialsExpired(self._source()) from error
        return call(self._client((region, service, endpoint, attempts))[1])

    def client(self, region: str, service: str, endpoint: str | None) -> Any:
        """The client, made if need be. Sends nothing."""
        return self._client((region, service, endpoint, 2))[1]

    def life(self, endpoint: str | None) -> Life | None:
        """How long the credentials last that calls to `endpoint` are signed with. None: there are none.

        May ask their source. BotoCoreError, PreflightFailed.
        """
        if self._ref is None and on_loopback(endpoint):
            return Life("AWS credentials (static, for loopback only)", known=True)
        with self._guard:
            session = self._made()
            keys = self._keys
        if keys is not None:
            known = keys.expires is not None or keys.token is None
            return Life(f"AWS credentials in {self._source()}", known, keys.expires, "by whoever writes it")
        credentials = session.get_credentials()
        return None if credentials is None else _life_of(credentials)

    def close(self) -> None:
        """Close every client's connections."""
        with self._guard:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, key: tuple[str, str, str | None, int]) -> tuple[int, Any]:
        with self._guard:
            if key not in self._clients:
                region, service, endpoint, attempts = key
                dummy = self._ref is None
                self._clients[key] = build_client(
                    self._made(), region, service, endpoint, attempts=attempts, dummy=dummy
                )
            return self._generation, self._clients[key]

    def _made(self) -> Any:
        if self._session is None:
            self._keys = self._read()
            self._session = build_session(self._keys)
        return self._session

    def _read(self) -> Keys | None:
        if self._ref is None:
            return None
        assert self._secrets is not None  # whoever gives a reference gives what resolves it
        keys = read_keys(self._secrets.get(self._ref), self._ref.ref)
        if isinstance(self._secrets, Hides):
            for secret in filter(None, (keys.secret_key, keys.token)):
                self._secrets.hide(secret)
        return keys

    def _renew_in_time(self) -> None:
        keys, generation = self._keys, self._generation
        if keys is None or keys.expires is None or keys.expires - time.time() >= SOON_S:
            return
        if time.monotonic() - self._tried >= AGAIN_S:
            self._renewed(generation)  # if there are none yet, those that we have serve until they are refused

    def _look_usable(self) -> None:
        """botocore refreshes here what is near its end; what its source gives may be over already."""
        with self._guard:
            session = self._made()
        credentials = session.get_credentials()
        if credentials is None:
            return  # the call says so
        try:
            credentials.get_frozen_credentials()
        except RuntimeError as error:  # all that botocore says of refreshed credentials that have expired
            raise CredentialsExpired(self._source()) from error

    def _renewed(self, generation: int) -> bool:
        """Whether there are other credentials now than those of this generation of clients."""
        with self._guard:
            if self._generation != generation:
                return True  # another thread was faster
            self._tried = time.monotonic()
            keys = self._read()
            if keys is not None and keys == self._keys:
                return False
            session = build_session(keys)
            if keys is None and _frozen(session) == _frozen(self._session):
                return False
            self._session, self._keys = session, keys
            self._clients.clear()  # not closed: other threads may be in the middle of a call
            self._generation += 1
            return True

    def _source(self) -> str:
        if self._ref is not None:
            return self._ref.ref
        credentials = None if self._session is None else self._session.get_credentials()
        return "their source" if credentials is None else _NAMES.get(credentials.method, credentials.method)


_NAMES: Final = {"env": "the environment of this process", "shared-credentials-file": "the shared credentials file"}


def _life_of(credentials: Any) -> Life:
    from botocore.credentials import RefreshableCredentials

    what = f"AWS credentials from {_NAMES.get(credentials.method, credentials.method)}"
    if isinstance(credentials, RefreshableCredentials):
        credentials.get_frozen_credentials()  # those that are fetched on first use have no end before
        # botocore offers no public way to ask a refreshable credential for the end of its life
        expires = getattr(credentials, "_expiry_time", None)
        renews: Renewal = "never" if credentials.method == "env" else "by itself"
        return Life(what, known=expires is not None, ends=None if expires is None else expires.timestamp(),
                    renews=renews)  # fmt: skip
    renews = "never" if credentials.method == "env" else "by whoever writes it"
    return Life(what, known=credentials.token is None, renews=renews)


def _frozen(session: Any) -> Any:
    credentials = session.get_credentials()
    return None if credentials is None else credentials.get_frozen_credentials()


def read_keys(text: str, where: str) -> Keys:
    """Credentials as `credential_process` prints them (JSON), or as shell lines (`AWS_ACCESS_KEY_ID=…`).

    PreflightFailed names `where`, never what is there.
    """
    try:
        said = json.loads(text) if text.lstrip().startswith("{") else _lines(text)
        expires = said.get("Expiration")
        return Keys(
            said["AccessKeyId"], said["SecretAccessKey"], said.get("SessionToken"),
            datetime.fromisoformat(expires).timestamp() if expires else None,
        )  # fmt: skip
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PreflightFailed(
            f"{where} holds no AWS credentials: {type(error).__name__}",
            hint="write there what `aws configure export-credentials` prints",
        ) from None  # the cause would quote what is there


def _lines(text: str) -> dict[str, str]:
    words = [word.split("=", 1) for word in shlex.split(text, comments=True) if "=" in word]
    found = dict(words)
    return {key: found[name] for key, name in _VARIABLES.items() if name in found}


def build_session(keys: Keys | None = None) -> Any:
    """A boto3 session that asks the regional STS: the global one is in the region that may be down."""
    import boto3
    import botocore.session

    core = botocore.session.Session()
    core.set_config_variable("sts_regional_endpoints", "regional")
    if keys is not None:
        core.set_credentials(keys.access_key, keys.secret_key, keys.token)
    return boto3.session.Session(botocore_session=core)


def build_client(
    session: Any, region: str, service: str, endpoint: str | None, *, attempts: int = 2, dummy: bool = True
) -> Any:
    """A boto3 client with drkit's bounds; `dummy`: static dummy credentials for an endpoint on loopback."""
    from botocore.config import Config

    settings: dict[str, Any] = {
        "connect_timeout": CONNECT_S,
        "read_timeout": READ_S,
        "retries": {"total_max_attempts": attempts, "mode": "standard"},
        "user_agent_appid": APP_ID,
    }
    if endpoint:
        settings["s3"] = {"addressing_style": "path"}
    static = {"aws_access_key_id": "drkit", "aws_secret_access_key": "drkit"} if dummy and on_loopback(endpoint) else {}
    return session.client(service, region_name=region, endpoint_url=endpoint, config=Config(**settings), **static)
