"""What can be proven about a run, from its journal and the readings it names, and nothing else.

`build` makes a `Story`: the report that scripts rely on (`Report`, drkit.report/1) with all that people want to read
beside it. `render` turns it into JSON, Markdown, one self-contained HTML file, JUnit or Prometheus text.
"""

from __future__ import annotations

from drkit.report.build import build
from drkit.report.contract import Report
from drkit.report.render import FORMATS, render
from drkit.report.story import Story

__all__ = ["FORMATS", "Report", "Story", "build", "render"]
