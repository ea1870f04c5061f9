"""The state store: small named objects with conditional writes, in a bucket or in a folder. Implements `Objects`.

Every call is synchronous and bounded by its own timeouts; whoever must not wait calls it in a thread. What the store
does not answer is a JournalError that says where the store is. A condition that does not hold is an answer (None),
never an error: the caller looks again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit

from drkit.errors import JournalError, UsageError
from drkit.model.environment import Environment
from drkit.model.ports import Objects
from drkit.providers.credentials import Clients, CredentialsExpired
from drkit.providers.secrets import Secrets

_LOCK_WAIT_S: Final = 5.0
_CONDITION_FAILED: Final = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING: Final = {"NoSuchKey", "404", "NotFound"}

T = TypeVar("T")


@cache
def _usual() -> Clients:
    """One for all stores that the usual credentials reach: it keeps what it parsed of the API's description."""
    return Clients()


def open_objects(environment: Environment) -> Objects:
    """The environment's state store. Opens nothing yet. UsageError if its address cannot be understood."""
    return open_url(environment.state_store, environment)


def preload() -> None:
    """Load what talking to a bucket takes (about 0.3 s), for a process that has to wait anyway. Talks to nobody."""
    _usual().client("us-west-2", "s3", "http://127.0.0.1:9")


def open_url(url: str, environment: Environment | None = None) -> Objects:
    """A state store by its address, `s3://bucket/prefix` or `file:///folder`.

    In an environment the bucket is reached through the endpoint of `state_store_site`. On an empty machine
    (`resume --state URL`) `?endpoint=` and `?region=` may follow the address. UsageError if it is neither kind.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return FileObjects(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        asked = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
        region, endpoint = asked.get("region"), unquote(asked["endpoint"]) if "endpoint" in asked else None
        if environment is not None and environment.state_store_site is not None:
            site = environment.site(environment.state_store_site)
            region, endpoint = region or site.name, endpoint or site.aws_endpoint
        clients = None
        if environment is not None and environment.aws_credentials is not None:
            clients = Clients(environment.aws_credentials, Secrets(environment))
        return S3Objects(parts.netloc, parts.path.strip("/"), region=region, endpoint=endpoint, clients=clients)
    raise UsageError(f'"{url}" is not a state store', hint="write s3://bucket/prefix or file:///folder")


class S3Objects:
    """Objects in a bucket, written with If-None-Match and If-Match.

    At most two attempts, 2 s to connect, 5 s to answer. A second attempt may find the first one's write: the
    condition then fails although we wrote. Who must know whether it was their own looks at the content.
    """

    def __init__(
        self, bucket: str, prefix: str, *, region: str | None, endpoint: str | None, clients: Clients | None = None
    ) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._region, self._endpoint = region, endpoint
        self._clients = clients or _usual()

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Content and ETag, or None if there is no such object."""

        def read(client: Any) -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            return answer["Body"].read(), answer["ETag"]

        return self._call(f"reading {key}", read, none_if=_MISSING)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        """Write and return the new ETag; None if the condition did not hold."""
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_tag} if if_tag is not None else {}

        def write(client: Any) -> str:
            answer = client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data, **condition)
            return str(answer["ETag"])

        return self._call(f"writing {key}", write, none_if=_CONDITION_FAILED | (_MISSING if condition else set()))

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""

        def list_(client: Any) -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            found = [item["Key"] for page in pages for item in page.get("Contents", [])]
            return sorted(str(key).removeprefix(self._prefix) for key in found)

        return self._call(f"listing {prefix}", list_) or []

    def describe(self) -> str:
        """`s3://bucket/prefix in us-west-2`."""
        where = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        return f"{where} in {self._region}" if self._region else where

    def _call(self, doing: str, call: Callable[[Any], T], *, none_if: set[str] | None = None) -> T | None:
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.parsers import ResponseParserError

        try:
            # Repeating is harmless here: conditions decide, and who must know whether it was their own looks.
            return self._clients.ask(
                call, region=self._region or "", service="s3", endpoint=self._endpoint, writes=False
            )
        except CredentialsExpired as error:
            raise self._down(doing, error.message) from error
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if none_if and code in none_if:
                return None
            raise self._down(doing, f"{code}: {error.response.get('Error', {}).get('Message', '')}") from error
        except (BotoCoreError, HTTPClientError, ResponseParserError) as error:
            raise self._down(doing, str(error).splitlines()[0]) from error

    def _down(self, doing: str, why: str) -> JournalError:
        return _unreachable(self.describe(), doing, why, f"aws s3 ls s3://{self._bucket}/{self._prefix}")


class FileObjects:
    """Objects as files in a folder of this machine: two machines cannot be kept apart by it, and every screen says so.

    A write is a new file, synced, and moved into place; conditions are decided under a lock file. A reader never sees
    half an object. The tag is the digest of the content.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> tuple[bytes, str] | None:
        """Content and tag, or None if there is no such object."""
        try:
            data = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._down(f"reading {key}", error) from error
        return data, _tag(data)

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_tag: str | None = None) -> str | None:
        """Write and return the new tag; None if the condition did not hold."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._locked():
                now = self.get(key)
                if (if_absent and now is not None) or (if_tag is not None and (now is None or now[1] != if_tag)):
                    return None
                _replace(path, data)
        except OSError as error:
            raise self._down(f"writing {key}", error) from error
        return _tag(data)

    def keys(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        start = self._path(prefix + "x").parent  # the deepest folder that the prefix names whole
        try:
            found = [path for path in start.rglob("*") if path.is_file() and not path.name.startswith(".")]
        except OSError as error:
            raise self._down(f"listing {prefix}", error) from error
        names = (path.relative_to(self._folder).as_posix() for path in found)
        return sorted(name for name in names if name.startswith(prefix))

    def describe(self) -> str:
        """`file:///folder (protects this machine only)`."""
        return f"{self._folder.as_uri()} (protects this machine only)"

    def _path(self, key: str) -> Path:
        if key.startswith("/") or any(part in {"", ".", ".."} or part.startswith(".") for part in key.split("/")):
            raise ValueError(f"{key!r} is not the name of an object")
        return self._folder / key

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Writers one after the other. Bounded: whoever froze with the lock in hand must not freeze everybody."""
        fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        deadline = time.monotonic() + _LOCK_WAIT_S
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(errno.ETIMEDOUT, f"somebody holds its lock for more than {_LOCK_WAIT_S:g} s")
                time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def _down(self, doing: str, error: OSError) -> JournalError:
        return _unreachable(self.describe(), doing, error.strerror or str(error), f"ls -ld {self._folder}")


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _unreachable(where: str, doing: str, why: str, hint: str) -> JournalError:
    return JournalError(
        f"state store {where} does not answer ({doing}): {why}",
        state="Nothing was changed by this call, unless the store carried it out without answering.",
        hint=hint,
        code="E0620",
    )
