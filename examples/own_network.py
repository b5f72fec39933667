"""A network of your own, trained by patient on the prepared beats, beside ours: `python own_network.py WORK [FOLDS [EPOCHS]]`.

WORK is a workspace with scores, as archive_to_cohort.py leaves one (example/work). "Ours" is what its last run said: of a model
that was trained here (`ecgbatch.train`), out of fold too, by the same folds.
"""

import sys

import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader

import ecgbatch

LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def train(beats: ecgbatch.BeatDataset, epochs: int) -> nn.Module:
    """Train a small network on batches of beats, (beat, lead, sample) mV."""
    torch.manual_seed(0)
    layers = [nn.Conv1d(len(LEADS), 32, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(32, 32, 7, padding=3), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 1))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for epoch in range(epochs):
        beats.set_epoch(epoch)
        for batch in DataLoader(beats, batch_size=None):
            loss = nn.functional.binary_cross_entropy_with_logits(network(batch["waveform"])[:, 0], batch["mi"].float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network


@torch.no_grad()
def predict(network: nn.Module, beats: ecgbatch.BeatDataset) -> pd.Series:
    """Return the mean probability of each record's beats."""
    found = [
        pd.Series(network(batch["waveform"])[:, 0].sigmoid().numpy(), batch["record_name"])
        for batch in DataLoader(beats, batch_size=None)
    ]
    return pd.concat(found).groupby(level=0).mean()


def main(work: str, n_folds: int = 5, epochs: int = 20) -> pd.DataFrame:
    """Train and test by folds of patients; return AUROC by patient, with its 95 % interval, of each, and of the difference."""
    workspace = ecgbatch.open_workspace(work)
    records = workspace.records.assign(fold=workspace.folds(n_folds))
    records = records[(records["fold"] >= 0) & records["mi"].isin([0, 1])]
    parts = []
    for fold in range(n_folds):
        others, own = records.index[records["fold"] != fold], records.index[records["fold"] == fold]
        network = train(workspace.torch_beats(64, others, leads=LEADS, seed=fold), epochs)
        parts.append(predict(network, workspace.torch_beats(256, own, leads=LEADS)))
    scores = {"own network": pd.concat(parts), "ours": workspace.scores["mi_probability"], "age alone": records["age_years"] / 90}
    scores = {name: one.reindex(records.index).to_numpy() for name, one in scores.items()}
    truth = records["mi"].to_numpy(), records["patient_id"].to_numpy()
    figures = {name: ecgbatch.patient_figures(one, *truth, names=("auroc",))["auroc"] for name, one in scores.items()}
    compared = ecgbatch.paired_difference(scores["own network"], scores["ours"], *truth)
    figures["own network minus ours"] = compared["auroc"]["difference"]
    return pd.DataFrame(figures).T


if __name__ == "__main__":
    print(main(sys.argv[1], *map(int, sys.argv[2:])))
