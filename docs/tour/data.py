"""Writes the 1,797 handwritten digits of scikit-learn, x [rows, 1, 8, 8] and y, in three parts."""

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
images, labels = digits.images.astype(np.float32)[:, None], digits.target.astype(str)
order = np.random.default_rng(0).permutation(len(labels))
for name, rows in {
    "train": order[:700],
    "test": order[700:900],  # held out: every version is judged on it
    "served": order[900:],  # what traffic.py sends
}.items():
    np.savez(f"{name}.npz", x=images[rows], y=labels[rows])
    print(f"{name}.npz: {len(rows)} digits")
