"""drkit: disaster recovery and chaos testing. What users import comes from here, and loads on first use (PEP 562)."""

from __future__ import annotations

__version__ = "0.1.0"
