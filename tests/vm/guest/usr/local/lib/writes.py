"""FILE: writes to it again and again, past the page cache. In the virtual machine; leaves its processor to others."""

from __future__ import annotations

import os
import sys
import time

BLOCK = bytes(16384)
PAUSE_S = 0.1

if __name__ == "__main__":
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    while True:
        os.pwrite(file, BLOCK, 0)
        time.sleep(PAUSE_S)
