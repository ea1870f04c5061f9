"""The live release as a region says it: not written down is one thing, not said is another."""

from __future__ import annotations

from typing import Any

import pytest

from drkit.actions.aws_ecr import live_release
from drkit.errors import DrkitError, Unobservable
from drkit.providers.aws import AwsError


class Silent:
    """A context whose AWS refuses."""

    def __init__(self, code: str) -> None:
        self._code = code

    def use(self, provider: type[Any]) -> Silent:
        return self

    async def call(self, *asked: Any) -> None:
        raise AwsError("ssm:get_parameter: no", aws_code=self._code, status=400)


@pytest.mark.parametrize(
    ("code", "error", "world"),
    [
        ("ParameterNotFound", Unobservable, None),
        ("ThrottlingException", AwsError, "turned-away"),
        ("AccessDeniedException", AwsError, "untouched"),
    ],
)
async def test_who_is_turned_away_is_not_told_that_nothing_is_written_down(
    code: str, error: type[DrkitError], world: str | None
) -> None:
    ctx: Any = Silent(code)
    with pytest.raises(error) as raised:
        await live_release(ctx, "west", "/live")
    assert getattr(raised.value, "world", None) == world
