"""One thread for torch: tests run side by side, and its threads wait for each other on a busy machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
