"""Files of each device format inspected and read in a second of one processor: ``python -m benchmarks.speed.formats DATA``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ecgbatch.archive.finding import find_records
from ecgbatch.formats.devices import parsed_lately
from ecgbatch.formats.dicom import parsed_lately as dicom_parsed_lately
from ecgbatch.formats.records import read_record

SECONDS = 2.0


def files_a_second(archive: Path, name: str) -> float:
    """Inspect and read one record again and again, decoding it each time, for ``SECONDS`` of processor time."""
    read_record(archive, name)  # machine code and libraries are loaded
    n, start = 0, time.process_time()
    while (spent := time.process_time() - start) < SECONDS:
        parsed_lately.cache_clear()
        dicom_parsed_lately.cache_clear()
        read_record(archive, name)
        n += 1
    return n / spent


def main() -> None:
    """Print a line for each file of ``DATA/formats``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that ECGBATCH_TEST_DATA names")
    archive = parser.parse_args().data / "formats"
    for name in find_records(archive):
        kilobytes = (archive / name).stat().st_size / 1000
        print(f"{files_a_second(archive, name):6.0f} a second  {kilobytes:5.0f} kB  {name}")


if __name__ == "__main__":
    main()
