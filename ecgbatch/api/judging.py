"""How good probabilities are, by patient and with intervals: the figures that the reports print."""

from ecgbatch.figures.by_patient import paired_difference, patient_figures

__all__ = ["paired_difference", "patient_figures"]
