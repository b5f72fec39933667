"""Everything that decides a training, besides the beats."""

from __future__ import annotations

from dataclasses import dataclass, field

from ecgbatch.model.definition import DEFAULT_LEADS, Preprocessing


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training, besides the beats; saved in the model.

    The optimiser is the paper's (Kachuee et al. 2018: Adam 1e-3, betas 0.9 and 0.999). Batches are balanced: each class has the
    same share, every patient of a class as likely as any other, so neither prevalence nor a patient's number of records weighs.

    ``n_classes`` 3 learns MI, healthy control and other heart disease, where at least ``data.FEWEST_OTHER`` patients are labelled
    ``other``; below that, those are learnt as not MI. 2 learns MI and control from these alone.

    What the defaults add to the paper was chosen on folds of PTB-XL patients alone (docs/model.md): above all ``mixup``
    (Zhang and others 2018, arXiv:1710.09412), worth 0.004 of AUROC there, and a rate that falls along a half cosine to 0
    (Loshchilov and Hutter 2017, arXiv:1608.03983). Without ``cosine`` the rate is the paper's: times ``decay`` every
    ``decay_steps``. ``min_steps`` lengthens the epochs of a small archive: below some 300 steps a member is not yet trained.

    With ``holds_out_validation`` member k is validated on fold k+1; without it, it trains on that fold too, and calibrations
    come from the test scores of the other folds' members (never from the patient they are applied to). The threshold is one for
    all.

    With ``n_trees`` each member also has boosted trees on the wave figures of the median beat (``model.waves``), so many a class,
    fitted to each record and to ``tree_copies`` with noise (``noise_sd``) and R a sample off; they have two thirds of the say.

    With ``n_seeds`` above 1 the patients are dealt to the folds anew for each: a patient then is new to that many members.

    With ``n_kernels`` each member also has a logistic regression on that many random kernels of the median beat
    (``model.random_kernels``), fitted to ``kernel_copies`` blended copies of each record besides the record itself, with
    ``kernel_penalty`` over the number of records on its squared weights; it has as much say as the network. Lead II alone has
    these in place of trees, which are worse there (docs/model.md).

    With ``trunk``, the digest of a network trained on beats of arrhythmia (``arrhythmia``), its convolutions are taken over and
    frozen, and the fully connected layers learn anew: the paper's transfer.

    ``start`` is the digest of the model that training goes on from; empty: from random weights. Its trees stay as they are: the
    networks and calibrations move. ``key`` replaces the patients'
    key where that model already has one.
    """

    recipe: str = "ecgbatch"
    leads: tuple[str, ...] = DEFAULT_LEADS
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    n_folds: int = 5
    n_seeds: int = 1
    holds_out_validation: bool = False
    epochs: int = 5
    min_steps: int = 300
    batch_size: int = 64
    max_beats_per_record: int = 32
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    decay: float = 0.75
    decay_steps: int = 10_000
    cosine: bool = True
    averaging: float = 0.0
    augmentation: bool = True
    amplitude_sd: float = 0.2
    shift_samples: int = 3
    noise_sd: float = 0.1
    lead_dropout: float = 0.1
    mixup: float = 1.0
    n_classes: int = 3
    n_trees: int = 200
    tree_leaves: int = 12
    tree_rate: float = 0.05
    tree_share: float = 0.2
    tree_copies: int = 2
    n_kernels: int = 0
    kernel_copies: int = 4
    kernel_penalty: float = 300.0
    trunk: str = ""
    start: str = ""
    key: str = ""
    seed: int = 2018

    def __post_init__(self) -> None:
        if self.n_folds < 2 or min(self.n_seeds, self.epochs, self.batch_size // 2, self.max_beats_per_record) < 1:
            raise ValueError(
                "TrainSettings need n_folds of at least 2, n_seeds, epochs and max_beats_per_record of at least 1 and a "
                f"batch_size of at least 2, found {self}"
            )

    @property
    def patient_key(self) -> str:
        """Key of the patients' digests and of the folds: a function of the seed."""
        return self.key or f"ecgbatch patients {self.seed}"
