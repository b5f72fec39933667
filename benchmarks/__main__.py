"""``python -m benchmarks``: how fast, the usual parts of ``benchmarks.speed``."""

from __future__ import annotations

from benchmarks.speed.__main__ import main

if __name__ == "__main__":
    main()
