"""Runners of which the fork server never becomes ready."""

from __future__ import annotations

import os
import time
from pathlib import Path

Path(os.environ["TMPDIR"], "loading").write_text(str(os.getpid()), encoding="ascii")
time.sleep(600)
