"""The model card: what a model is, is for and reached, in Markdown; every number comes from what model.json says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ecgbatch.terms import NOTICE


def model_card(stated: Mapping[str, Any], *, name: str, digest: str, n_kernels: int) -> str:
    """Return the model card (Markdown) that the program can answer for.

    Parameters
    ----------
    stated
        What model.json says of the model: a field of ``definition.Model`` each but for the arrays.
    name, digest
        As people and programs know the model.
    n_kernels
        Random kernels that its regressions share; 0 where it has none.

    """
    training, point = stated["training"], stated["operating_point"]
    rows = [f"| {name} | {_figure(value)} |" for name, value in sorted(stated["figures"].items())]
    apart = ("data", "limits", "evaluations", "calibrations", "reference")
    settings = {name: value for name, value in {**training, **stated["versions"]}.items() if name not in apart}
    data, limits = (_bullets(title, training.get(title.lower(), [])) for title in ("Data", "Limits"))
    return "\n".join(
        [
            f"# Model card: {name}",
            "",
            f"**{NOTICE}**",
            "",
            f"Digest `{digest}`.",
            "",
            *_purpose(stated),
            "",
            f"Input: beats cut with {dict(stated['beats'])}, leads {', '.join(stated['leads'])}, {stated['n_samples']} samples.",
            f"Preprocessing: {stated['preprocessing']}.",
            _members(n_kernels, int(training.get("n_trees", 0))),
            "A record of a patient that a member trained on, or was validated on, is scored by the other members only.",
            "",
            f"Operating point: threshold {point['threshold']:.3f} (sensitivity {_figure(point['sensitivity'])}, specificity "
            f"{_figure(point['specificity'])}), chosen on {point['chosen_on']}.",
            "",
            "| figure (out of fold, by patient) | value [95 % interval] |",
            "|---|---|",
            *rows,
            "",
            *_evaluations(training.get("evaluations", {})),
            *data,
            *limits,
            *_calibrations(training.get("calibrations", {})),
            *_tripod(stated),
            "## Training",
            "",
            "| setting | value |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in sorted(settings.items())),
            "",
        ]
    )


def _purpose(stated: Mapping[str, Any]) -> list[str]:
    if stated.get("abnormal"):
        return [
            "Its probability is of myocardial infarction against healthy hearts and other heart disease. It tells infarction",
            "from a healthy heart well, from other heart disease only in part: see the figures against other heart disease.",
        ]
    return [
        "It separates recordings of patients with myocardial infarction from healthy controls. It does not tell infarction",
        "from other heart disease: other diagnoses often score high.",
    ]


def _members(n_kernels: int, n_trees: int) -> str:
    parts = ["the network of Kachuee and others (2018) on these leads"]
    if n_trees:
        parts.append(f"with two votes, {n_trees} rounds of boosted trees on wave figures of the median beat")
    if n_kernels:
        parts.append(f"with one vote, a logistic regression on {n_kernels} random kernels of the median beat")
    return f"A member is {' and, '.join(parts)}; its logit is the mean of the votes."


def _calibrations(losses: Mapping[str, Any]) -> list[str]:
    """Return the evidence on which rule of calibration the data support."""
    if not losses:
        return []
    rows = [f"| {rule} | {loss['log_loss']:.4f} | {loss['brier']:.4f} |" for rule, loss in losses.items()]
    best = min(losses, key=lambda rule: float(losses[rule]["log_loss"]))
    return [
        "## Calibration",
        "",
        f"Each rule fitted to the other folds' patients, judged on those left out; least log loss: {best}. Platt's rule is used:",
        "it has an intercept, which another prevalence or another site needs, and two numbers that can be checked by hand.",
        "",
        "| rule | log loss | Brier |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _tripod(stated: Mapping[str, Any]) -> list[str]:
    """Return the items of TRIPOD+AI (Collins and others 2024, BMJ 385:e078378) that the program knows; what only people know is
    named as open.
    """
    training, point = stated["training"], stated["operating_point"]
    known = {
        "3 intended use": "research; scores resting ECGs for patterns of MI, no triage, no diagnosis",
        "5 data": "; ".join(training.get("data", [])) or "open: name the archive, its dates and sites",
        "6 participants": f"{training.get('n_records', '?')} records of {training.get('n_patients', '?')} patients with a label "
        f"mi, control or (where three classes are learnt: {training.get('n_classes_learnt', 2)} here) other, and scorable beats",
        "7 data preparation": "beats and preprocessing above; a record that cannot be read is set aside with a reason",
        "8 outcome": "label mi, control or other as the archive states it; who assessed it and how is open unless stated in Data",
        "9 predictors": f"{len(stated['leads'])} leads, {stated['n_samples']} samples a beat; "
        "no age, sex, date, length or amplitude",
        "10 sample size": "what there was; intervals by bootstrap of patients",
        "11 missing data": "a missing lead enters as zeros; below two thirds of the leads or three beats there is no score",
        "12 analysis": f"{training.get('n_folds_used', '?')} folds by patient; every figure of a patient comes from members that "
        "never saw it",
        "13 class imbalance": "every class has the same share of a batch; the calibration restores the share of MI, "
        f"{training.get('prevalence', float('nan')):.3f}",
        "14 fairness": "figures by sex and age: ecgbatch evaluate; groups here are too small for a claim",
        "15 output": f"calibrated probability with interval; threshold {point['threshold']:.3f}; indeterminate where the "
        "interval holds it, the record is unlike training or electrodes seem exchanged",
        "16 training against evaluation": "the sections above name the data of each",
        "18 open science": "code, weights, settings and this card are one package; protocol and registration: none",
        "21 model development": "settings below",
        "22 model": "model.safetensors beside this card",
        "23 performance": "tables above, 95 % intervals by patient",
        "24 updating": f"from model {training['start'][:20]}" if training.get("start") else "none",
        "26 limits": "section Limits" if training.get("limits") else "open",
        "27 use": "ecgbatch score; every result needs review by a physician",
    }
    rows = [f"| {item} | {text} |" for item, text in known.items()]
    return ["## TRIPOD+AI", "", "| item | what the program knows |", "|---|---|", *rows, ""]


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
