"""The slots as the agent sees them: processes it starts, feeds, reads and kills.

Nothing here blocks: bodies are far smaller than a pipe's buffer, answers are read when announced.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from consumer.execution import Worker
from consumer.slot import READY, slot_main
from protocol.messages import Failure, FailureKind, decode

SINGLE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
