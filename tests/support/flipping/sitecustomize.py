"""Breaks the machine that a consumer runs on: with this folder on its path, slots flip bits.

Python imports this at the start of every process. Every third partial of the runs concerned has a
sum of which one bit is another; all the rest is the agent as it is.
"""

import itertools

from consumer.execution import Executor
from ops.simulation.consumer import with_a_flipped_bit
from protocol.messages import Chunk, Failure, Partial

RUNS = "audited"
"""What the ids of these runs begin with; the golden chunks are computed as they should be."""

_count = itertools.count()
_execute = Executor.execute


def _execute_wrongly(executor: Executor, chunk: Chunk) -> Partial | Failure:
    answer = _execute(executor, chunk)
    if isinstance(answer, Failure) or not chunk.run.startswith(RUNS) or next(_count) % 3:
        return answer
    return answer.model_copy(update={"statistics": with_a_flipped_bit(answer.statistics)})


Executor.execute = _execute_wrongly  # type: ignore[method-assign]
