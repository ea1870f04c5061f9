"""Secrets are resolved by reference, and whatever form they take in a log, they are taken out of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drkit.errors import PreflightFailed
from drkit.providers.secrets import REDACTED, Secrets


def test_a_file_without_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret!\n")
    assert Secrets().get(f"secret://file{tmp_path}/password") == "s3cret!"


def test_a_key_file_keeps_its_lines(tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nAAAAB3NzaC1yc2EAAAADAQABAAAB\n-----END KEY-----\n"
    (tmp_path / "key").write_text(key)
    secrets = Secrets()
    assert secrets.get(f"secret://file{tmp_path}/key") == key
    assert secrets.redact("read AAAAB3NzaC1yc2EAAAADAQABAAAB from it") == f"read {REDACTED} from it"
    assert "BEGIN" in secrets.redact("-----BEGIN KEY-----")


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "from the environment")
    assert Secrets().get("secret://env/DB_PASSWORD") == "from the environment"


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("secret://file/no/such/file", "cannot be read"), ("secret://env/NOT_SET_AT_ALL", "is not set"),
        ("secret://vault/x", "is not a reference"), ("hunter2", "is not a reference"), ("secret://file/", "not a ref"),
        ("secret://aws-sm/us-west-2", "names no secret"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_before_anything_runs(ref: str, says: str) -> None:
    with pytest.raises(PreflightFailed, match=says):
        Secrets().get(ref)


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(PreflightFailed, match="is empty"):
        Secrets().get(f"secret://file{tmp_path}/empty")


SECRET = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=9, max_size=40)


@given(SECRET, st.text("abc :", max_size=7))
def test_no_form_of_a_secret_stays(secret: str, before: str) -> None:
    secrets = Secrets()
    secrets.hide(secret)
    forms = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]]
    for form in forms:
        assert form not in secrets.redact(f"<{form}>")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode((before + secret + before).encode()).decode()
        left = secrets.redact(f"Authorization: Basic {text}").replace(REDACTED, "")
        # What stays are the neighbours of the secret and bits that it shares with them.
        assert len(left.removeprefix("Authorization: Basic ")) <= 4 * (2 * len(before.encode()) // 3 + 3)


def test_a_short_secret_goes_only_where_it_stands_alone() -> None:
    secrets = Secrets()
    secrets.hide("a1")
    assert secrets.redact("pin a1, data1") == f"pin {REDACTED}, data1"


def test_without_secrets_nothing_is_redacted() -> None:
    assert Secrets().redact("nothing to hide") == "nothing to hide"
