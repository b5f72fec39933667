"""What ecgbatch is worth, measured: how fast (``speed``), how right (``accuracy``), and what becomes of it when things break."""
