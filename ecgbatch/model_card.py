"""The model card: what a model is, is for and reached, in Markdown; every number comes from the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ecgbatch.terms import NOTICE

if TYPE_CHECKING:
    from ecgbatch.model import Model


def model_card(model: Model) -> str:
    """Return the model card (Markdown) that the program can answer for: every number comes from the model itself."""
    point = model.operating_point
    rows = [f"| {name} | {_figure(value)} |" for name, value in sorted(model.figures.items())]
    apart = ("data", "limits", "evaluations")
    settings = {name: value for name, value in {**model.training, **model.versions}.items() if name not in apart}
    data, limits = (_bullets(title, model.training.get(title.lower(), [])) for title in ("Data", "Limits"))
    return "\n".join(
        [
            f"# Model card: {model.name}",
            "",
            f"**{NOTICE}**",
            "",
            f"Digest `{model.digest}`.",
            "",
            "It separates recordings of patients with myocardial infarction from healthy controls. It does not tell infarction",
            "from other heart disease: other diagnoses often score high.",
            "",
            f"Input: beats cut with {dict(model.beats)}, leads {', '.join(model.leads)}, {model.n_samples} samples.",
            f"Preprocessing: {asdict(model.preprocessing)}.",
            "A record of a patient that a member trained on, or was validated on, is scored by the other members only.",
            "",
            f"Operating point: threshold {point.threshold:.3f} (sensitivity {_figure(point.sensitivity)}, specificity "
            f"{_figure(point.specificity)}), chosen on {point.chosen_on}.",
            "",
            "| figure (out of fold, by patient) | value [95 % interval] |",
            "|---|---|",
            *rows,
            "",
            *_evaluations(model.training.get("evaluations", {})),
            *data,
            *limits,
            "## Training",
            "",
            "| setting | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in sorted(settings.items())),
            "",
        ]
    )


def _bullets(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _evaluations(evaluations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of figures for each evaluation, by its title."""
    lines = []
    for title, figures in evaluations.items():
        rows = [f"| {name} | {_figure(value)} |" for name, value in figures.items()]
        lines += [f"## {title}", "", "| figure (by patient) | value [95 % interval] |", "|---|---|", *rows, ""]
    return lines


def _figure(value: Any) -> str:
    if isinstance(value, Mapping) and "value" in value:
        point, low, high = ("unknown" if value[name] is None else f"{value[name]:.3f}" for name in ("value", "low", "high"))
        note = f" ({value['note']})" if value.get("note") else ""
        return f"{point} [{low}, {high}], {value['n_patients']} patients{note}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
