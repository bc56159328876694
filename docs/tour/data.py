"""Writes the 1,797 handwritten digits of scikit-learn, x [rows, 1, 8, 8] and y, in three parts."""

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
images, labels = digits.images.astype(np.float32)[:, None], digits.target.astype(str)
rng = np.random.default_rng(0)
# As the camera of traffic.py gives them: with a little noise.
seen = np.clip(images + rng.normal(0, 0.25, images.shape), 0, 16).astype(np.float32)
order = rng.permutation(len(labels))
train, test, served = order[:700], order[700:900], order[900:]
np.savez("train.npz", x=seen[train], y=labels[train])
np.savez("test.npz", x=seen[test], y=labels[test])  # held out: every version is judged on it
np.savez("served.npz", x=images[served], y=labels[served])  # what traffic.py shows the camera
print(f"train.npz {len(train)} digits, test.npz {len(test)}, served.npz {len(served)}")
