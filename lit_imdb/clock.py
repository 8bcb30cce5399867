"""When the program started."""

import time

STARTED = time.perf_counter()
