"""ecgbatch: archives of ECG recordings in, beats, scores and reports out."""

__version__ = "0.1.0"
