"""What the parameters of actions, probes and faults are made of, and how one use of an action is written down. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from drkit.model.values import Json

SITE_FORMAT = "drkit-site"

#: The name of a site, or one of the roles `source` and `target`, which a plan replaces by the name.
SiteName = Annotated[str, Field(json_schema_extra={"format": SITE_FORMAT})]


class Params(BaseModel):
    """Base of every parameter model: immutable, strict (`"24"` is not 24), unknown names are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    def but(self, **changes: Any) -> Self:
        """The same parameters with some changed; validated again. ValidationError if they do not fit."""
        return type(self).model_validate(self.model_dump() | changes, strict=False)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema, made once: it is what a catalog's digest is taken over, and costs milliseconds."""
    return _schema(model)


@lru_cache(maxsize=512)
def _schema(model: Any) -> dict[str, Any]:
    return model.model_json_schema()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Use:
    """One use of an action: its name and parameters. What `undo` returns and what a plan's step carries."""

    uses: str
    params: dict[str, Json]
