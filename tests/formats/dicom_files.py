"""DICOM ECG files with truth known, written by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.formats.wfdb_files import Samples, wave

CODES = {"I": 1, "II": 2, **{f"V{n}": n + 2 for n in range(1, 7)}, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64, "Vx": 16}
CODES |= {"ABP": 900, "CVP": 901}
ECG_CLASS = UID("1.2.840.10008.5.1.4.1.1.9.1.1")


def channel(lead: str, *, sensitivity: str = "0.5", unit: str = "uV", scheme: str = "SCPECG") -> Dataset:
    """Return a channel definition: by default 2000 adu per mV."""
    source, units, item = Dataset(), Dataset(), Dataset()
    source.CodeValue = f"5.6.3-9-{CODES[lead]}" if scheme == "SCPECG" else f"2:{CODES[lead]}"
    source.CodingSchemeDesignator, source.CodeMeaning = scheme, f"Lead {lead.removeprefix('V') if lead == 'Vx' else lead}"
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = unit, "UCUM", "microvolt"
    item.ChannelSourceSequence = Items([source])
    item.ChannelSensitivity = sensitivity
    item.ChannelSensitivityUnitsSequence = Items([units])
    item.ChannelSensitivityCorrectionFactor, item.ChannelBaseline, item.ChannelSampleSkew = "1", "0", "0"
    return item


def group(leads: Sequence[str], samples: Samples, *, rate: str = "250", dtype: str = "<i2", **fields: Any) -> Dataset:
    """Return a multiplex group; ``samples`` is (sample, lead)."""
    item = Dataset()
    item.MultiplexGroupTimeOffset, item.WaveformOriginality = "0", "ORIGINAL"
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples = len(leads), len(samples)
    item.SamplingFrequency = rate
    item.ChannelDefinitionSequence = Items([channel(lead) for lead in leads])
    item.WaveformBitsAllocated = 8 * np.dtype(dtype).itemsize
    item.WaveformSampleInterpretation = {"i1": "SB", "u1": "UB", "<i2": "SS", "<u2": "US", "<i4": "SL", "<u4": "UL"}[dtype]
    data = samples.astype(dtype).tobytes()
    item.WaveformData = data + b"\0" * (len(data) % 2)
    item["WaveformData"].VR = "OW" if np.dtype(dtype).itemsize > 1 else "OB"
    for keyword, value in fields.items():
        setattr(item, keyword, value)
    return item


def ecg(*groups: Dataset) -> Dataset:
    """Return a 12-lead ECG data set with a patient whose name must not be kept."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = ECG_CLASS, "1.2.3.4"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Canary^Zaphod", "MRN4711", "19500101"
    dataset.PatientSex, dataset.PatientAge = "F", "054Y"
    dataset.AcquisitionDateTime = "20020302101112"
    dataset.WaveformSequence = Items(list(groups))
    return dataset


def encoded(dataset: Dataset, syntax: str = ExplicitVRLittleEndian, sop_class: str = ECG_CLASS) -> bytes:
    """Return the bytes of a DICOM file."""
    meta = FileMetaDataset()
    dataset.SOPClassUID = UID(sop_class)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID("1.2.3.4")
    meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta = meta
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def waves(n_leads: int, n: int = 500, width: int = 16, seed: int = 0) -> Samples:
    """Return random walks (sample, lead)."""
    return np.concatenate([wave(n, width, seed + i, step=90) for i in range(n_leads)], axis=1)
