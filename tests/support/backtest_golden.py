"""Two chunks of the back-test whose bits are recorded; run as a program, it prints their hashes."""

import hashlib
from typing import Any

from consumer.answers import Worker
from consumer.execution import execute
from consumer.models.backtest import Backtest
from protocol.codec import canonical
from protocol.definition import Sampling
from protocol.messages import Chunk, Partial
from protocol.model import validated

WORKER = Worker("host-1", "host")
PORTFOLIO: dict[str, Any] = {
    "legs": ["EURUSD", "GBPJPY", "NZDHKD"], "weights": [0.5, 0.3, -0.2],
    "strategy": "momentum", "volatility_target": 0.1, "cost": 2.5,
}  # fmt: skip
PARTS = {"sums", "cross", "squares", "fourth", "minimum", "maximum"}
HISTORY: dict[str, Any] = {"mode": "history", "pair": "USDZAR"}


def chunk(params: dict[str, Any], block_size: int = 8, **changes: Any) -> Chunk:
    fields: dict[str, Any] = {
        "run": "r", "definition": bytes(32), "attempt": 3, "cell": 2, "first_block": 5,
        "blocks": 2, "block_size": block_size, "model": "backtest", "model_version": 1,
        "params": validated(Backtest, params).params(), "outputs": Backtest.outputs,
        "sampling": Sampling(), "seed": 2**64 - 1,
    }  # fmt: skip
    return Chunk(**(fields | changes))


def hashes() -> list[str]:
    answers = [execute(chunk(PORTFOLIO), WORKER), execute(chunk(HISTORY, 1, blocks=1), WORKER)]
    return [
        hashlib.sha256(canonical(answer.statistics.model_dump(include=PARTS))).hexdigest()
        for answer in answers
        if isinstance(answer, Partial)
    ]


if __name__ == "__main__":
    print("\n".join(hashes()))  # noqa: T201
