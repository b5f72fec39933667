"""How fast: ecgbatch beside its peers, the naive way and the limit of the machine, in one run each."""
