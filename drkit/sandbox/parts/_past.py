"""What an API answered to reads, so that it can answer once more what was so a while ago. Thread-safe; no I/O."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict, deque
from typing import Final

from drkit.sandbox.parts._web import Reply

#: Questions, and different answers to each, that are remembered; the oldest are forgotten.
_QUESTIONS_MAX: Final = 2000
_ANSWERS_MAX: Final = 40
_REQUEST_ID: Final = re.compile(rb"<(request_?id)>[^<]*</\1>", re.IGNORECASE)

Question = tuple[str, ...]


class Past:
    """Answers by question (whatever tells requests apart), each once and since when, newest last."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Question, deque[tuple[float, Reply]]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, question: Question, reply: Reply) -> None:
        """It was just answered so."""
        with self._lock:
            answers = self._answers.setdefault(question, deque(maxlen=_ANSWERS_MAX))
            if not answers or not same(answers[-1][1], reply):
                answers.append((time.monotonic(), reply))
            self._answers.move_to_end(question)
            if len(self._answers) > _QUESTIONS_MAX:
                self._answers.popitem(last=False)

    def before(self, question: Question, age_s: float) -> Reply | None:
        """What was answered that long ago, or as long ago as is known; None: nobody has asked before."""
        with self._lock:
            answers = self._answers.get(question)
            if not answers:
                return None
            old = [reply for at, reply in answers if time.monotonic() - at >= age_s]
            return old[-1] if old else answers[0][1]


def same(one: Reply, other: Reply) -> bool:
    """They say the same of the world."""
    return (one.status, _REQUEST_ID.sub(b"", one.body)) == (other.status, _REQUEST_ID.sub(b"", other.body))
