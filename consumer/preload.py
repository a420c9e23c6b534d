"""What the fork server imports before it forks slots; the import does the work.

Whatever is loaded here, compiled kernels above all, the slots share instead of loading it again.
"""

import consumer.slot  # noqa: F401 - for the slots that follow
from consumer.warm_up import warm_up

warm_up()
