"""FILE: writes to it again and again, past the page cache. In the virtual machine; leaves its processor to others."""

from __future__ import annotations

import mmap
import os
import sys
import time

SIZE = 16384
PAUSE_S = 0.1

if __name__ == "__main__":
    # A write through the cache is written back in the name of whoever dirtied the file first, and limited by nobody.
    file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    block = mmap.mmap(-1, SIZE)
    while True:
        os.pwrite(file, block, 0)
        time.sleep(PAUSE_S)
