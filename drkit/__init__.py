"""drkit: disaster recovery and chaos testing. What users import comes from here, and loads on first use (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drkit.catalog import Action as Action
    from drkit.catalog import Catalog as Catalog
    from drkit.catalog import Probe as Probe
    from drkit.catalog import action as action
    from drkit.catalog import fault as fault
    from drkit.catalog import probe as probe
    from drkit.context import Context as Context
    from drkit.context import Provider as Provider
    from drkit.errors import DrkitError as DrkitError
    from drkit.errors import NotSupported as NotSupported
    from drkit.errors import StepFailed as StepFailed
    from drkit.errors import Unobservable as Unobservable
    from drkit.model.environment import Environment as Environment
    from drkit.model.observation import Observation as Observation
    from drkit.model.observation import State as State
    from drkit.model.observation import Verdict as Verdict
    from drkit.model.params import Params as Params
    from drkit.model.params import SiteName as SiteName
    from drkit.model.params import Use as Use
    from drkit.model.plan import Plan as Plan

__version__ = "0.1.0"

_HOME = {
    "Action": "drkit.catalog",
    "Catalog": "drkit.catalog",
    "Context": "drkit.context",
    "DrkitError": "drkit.errors",
    "Environment": "drkit.model.environment",
    "NotSupported": "drkit.errors",
    "Observation": "drkit.model.observation",
    "Params": "drkit.model.params",
    "Plan": "drkit.model.plan",
    "Probe": "drkit.catalog",
    "Provider": "drkit.context",
    "SiteName": "drkit.model.params",
    "State": "drkit.model.observation",
    "StepFailed": "drkit.errors",
    "Unobservable": "drkit.errors",
    "Use": "drkit.model.params",
    "Verdict": "drkit.model.observation",
    "action": "drkit.catalog",
    "fault": "drkit.catalog",
    "probe": "drkit.catalog",
}

__all__ = [
    "Action",
    "Catalog",
    "Context",
    "DrkitError",
    "Environment",
    "NotSupported",
    "Observation",
    "Params",
    "Plan",
    "Probe",
    "Provider",
    "SiteName",
    "State",
    "StepFailed",
    "Unobservable",
    "Use",
    "Verdict",
    "__version__",
    "action",
    "fault",
    "probe",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'drkit' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
