"""The child in which an experiment's Python functions, HTTP calls and controls run, because it can be killed.

`python -m drkit.chaos.toolkit.worker FD`: frames come and go over that socket (`frames`). It ends with the runner: a
thread waits for the end of the socket, whatever function is at work. What a function prints goes back with its answer.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable

from drkit.chaos.toolkit.frames import Frame, receive, send

SAID_MAX = 1 << 16


def main(fd: int) -> None:
    """Answer calls until the runner is gone."""
    wire = socket.socket(fileno=fd)
    calls: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(wire, calls), daemon=True).start()
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # chaoslib.exit sends them to its own process: the runner is meant
        signal.signal(number, lambda number, frame: os.kill(os.getppid(), number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        call = calls.get()
        send(wire, _answered(call))


def _listen(wire: socket.socket, calls: queue.SimpleQueue[Frame]) -> None:
    while (call := receive(wire)) is not None:
        calls.put(call)
    os._exit(1)


def _answered(call: Frame) -> Frame:
    said = io.StringIO()
    answer: Frame
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            answer = _VERBS[call["verb"]](call)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the runner decides; SystemExit means the experiment
        trace = traceback.format_exception(error)
        ends = isinstance(error, SystemExit | KeyboardInterrupt) or _is_interrupt(error)
        answer = {"status": "exit" if ends else "broken", "error": _one_line(error), "trace": trace}
    return answer | {"said": said.getvalue()[-SAID_MAX:]}


def _call(call: Frame) -> Frame:
    """A function of a module; it fails if it raises, and is broken if it cannot be found."""
    function = getattr(importlib.import_module(call["module"]), call["func"])
    arguments = dict(call["arguments"])
    parameters = inspect.signature(function).parameters
    if call["secrets"] is not None and "secrets" in parameters:
        arguments["secrets"] = call["secrets"]
    if "configuration" in parameters:
        arguments["configuration"] = call["configuration"]
    try:
        return {"status": "succeeded", "output": function(**arguments)}
    except Exception as error:  # noqa: BLE001 - an activity may raise anything: it has failed
        return {"status": "failed", "error": _one_line(error), "trace": traceback.format_exception(error)}


def _http(call: Frame) -> Frame:
    from drkit.chaos.toolkit.request import request

    return request(call)


def _control(call: Frame) -> Frame:
    """One function of a control. What it changes in what it is given goes back."""
    module = importlib.import_module(call["module"])
    function = getattr(module, call["func"], None)
    given = call["given"]
    if function is not None:
        parameters = inspect.signature(function).parameters
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        named = {name: given[name] for name in given if name in parameters or (name == "context" and takes_all)}
        function(**{**call["arguments"], **named})
    return {"status": "succeeded", "output": None, "given": given}


def _vault(call: Frame) -> Frame:
    from chaoslib.secret import load_secrets

    return {"status": "succeeded", "output": load_secrets(call["declared"], call["configuration"])}


_VERBS: dict[str, Callable[[Frame], Frame]] = {"call": _call, "http": _http, "control": _control, "vault": _vault}


def _is_interrupt(error: BaseException) -> bool:
    """chaoslib's InterruptExecution, which controls raise; known by name, because chaoslib need not be there."""
    return any(each.__name__ == "InterruptExecution" for each in type(error).__mro__)


def _one_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


if __name__ == "__main__":
    main(int(sys.argv[1]))
