"""Configuration and secrets of an experiment that is about to run: variables, the vault, and probes that are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drkit.chaos.toolkit.abort import Abort
from drkit.chaos.toolkit.activities import Activities
from drkit.chaos.toolkit.calling import Calls
from drkit.chaos.toolkit.model import Activity, Experiment, Http, Process
from drkit.chaos.toolkit.noticing import Noticing
from drkit.chaos.toolkit.values import Values, resolve_configuration, resolve_secrets
from drkit.errors import PreflightFailed

_VAULT_S = 30.0


def resolve(
    experiment: Experiment, given: tuple[Mapping[str, Any], Mapping[str, Any]], *, warn: Callable[[str], None]
) -> Values:
    """Every value. PreflightFailed if a variable is not set or a vault does not answer; nothing was touched."""
    configuration, missing = resolve_configuration(experiment.configuration, given[0])
    secrets, more = resolve_secrets(experiment.secrets, given[1])
    for problem in (*missing, *more):
        raise PreflightFailed(f"{'.'.join(map(str, problem.where))}: {problem.why}", hint=problem.hint)
    values = Values(configuration, secrets)
    if not _has_vault(secrets) and not _probes(configuration):
        return values
    calls = Calls("resolving", values)
    try:
        if _has_vault(secrets):
            values.secrets = _from_vault(secrets, configuration, calls)
        for key, declared in _probes(configuration).items():
            _ask(key, declared, values, calls, experiment.path, warn)
    finally:
        calls.close()
    return values


def _from_vault(secrets: dict[str, Any], configuration: dict[str, Any], calls: Calls) -> dict[str, Any]:
    call = {"verb": "vault", "declared": secrets, "configuration": configuration}
    outcome, _ = calls.child.ask(call, timeout_s=_VAULT_S, abort=Abort())
    if outcome.status != "succeeded" or not isinstance(outcome.output, dict) or _empty(secrets, outcome.output):
        raise PreflightFailed(
            f"secrets cannot be read from the vault: {outcome.error or 'it has none there'}",
            hint="pip install 'chaostoolkit-lib[vault]'",
        )
    return outcome.output


def _ask(
    key: str, declared: dict[str, Any], values: Values, calls: Calls, path: str, warn: Callable[[str], None]
) -> None:
    """A value that a probe gives; left out, as in Chaos Toolkit, if it cannot be had, and that is said."""
    from drkit.plan.yaml import Document

    probe = Activities(Noticing(Document(path, "", ()), [], [])).one(declared, ("configuration", key))
    outcome = calls.call(probe, "configuration", Abort()) if probe is not None else None
    values.configuration.pop(key)
    if probe is None or outcome is None or outcome.status != "succeeded":
        warn(f"configuration {key} cannot be had: {outcome.error if outcome else 'its probe is not valid'}")
        return
    value = _value(probe, outcome.output)
    if value is None and isinstance(probe.provider, Process):
        warn(f"configuration {key} cannot be had: its process failed")
        return
    values.configuration[key] = value


def _value(probe: Activity, output: Any) -> Any:
    if isinstance(probe.provider, Process):
        return output["stdout"].strip() if output["status"] == 0 else None
    return output.get("body") if isinstance(probe.provider, Http) else output


def _probes(configuration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: said for key, said in configuration.items() if isinstance(said, dict) and said.get("type") == "probe"}


def _has_vault(secrets: Mapping[str, Any]) -> bool:
    return any(
        isinstance(said, dict) and (said.get("type") == "vault" or _has_vault(said)) for said in secrets.values()
    )


def _empty(declared: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """chaoslib gives an empty mapping where it could not read."""
    return any(
        isinstance(said, dict)
        and (not found.get(key) if said.get("type") == "vault" else _empty(said, found.get(key) or {}))
        for key, said in declared.items()
        if isinstance(said, dict) and said.get("type") != "env"
    )
