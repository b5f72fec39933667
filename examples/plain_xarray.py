"""Every record by name, in millivolts, missing samples as NaN, with xarray alone: `python plain_xarray.py WORK`."""

import json
import sys
from pathlib import Path

import xarray as xr

MISSING_SAMPLE, MISSING_LEAD = -32768, 1  # docs/stores.md: the fill of `signal`, a bit of `lead_flags`


class Records:
    """The records that are in the archive now: several stores hold them, and rows that were superseded lie there too."""

    def __init__(self, work: str) -> None:
        view = json.loads(Path(work, "archive.json").read_text())
        self.stores = {name: xr.open_zarr(f"{work}/signals/{name}.zarr", consolidated=False) for name in set(view["stores"])}
        self.places = dict(zip(view["records"], zip(view["stores"], view["rows"], strict=True), strict=True))

    def millivolts(self, name: str) -> xr.DataArray:
        """Return a record's leads and samples, (lead, sample), lazily; one that is set aside has no leads."""
        store, row = self.places[name]
        record = self.stores[store].isel(record=row)
        record = record.isel(lead=(record["lead_flags"].values & MISSING_LEAD) == 0, sample=slice(0, int(record["n_samples"])))
        signal = record["signal"].where(record["signal"] != MISSING_SAMPLE)
        return (signal - record["baseline"]) / record["adc_gain"]


if __name__ == "__main__":
    records = Records(sys.argv[1])
    for name in records.places:
        ecg = records.millivolts(name)
        print(name, dict(ecg.sizes), f"{float(ecg.max()):.2f} mV at most" if ecg.sizes["lead"] else "set aside")
