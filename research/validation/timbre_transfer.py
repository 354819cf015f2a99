"""Does a classifier of the leading instrument, trained on performed pieces, hold on real recordings?

    python -m research.validation.timbre_transfer RECORDINGS

RECORDINGS is a folder with metadata.csv (file_name, instruments). Features are those of the timbre embedding, the
classifier is a logistic regression of the four families of the performer, pieces 28 of 40 seeds for training.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from talim.audio import Audio
from talim.audio.read import read
from talim.metrics import embeddings
from talim.synthesis.performer import perform

FIRST_SEED, SEEDS, TRAINED = 90_000, 40, 28
CLIP_SECONDS, MAX_CLIPS = 6.0, 5


def vectors(sound: Audio) -> np.ndarray:
    """Timbre of up to five clips of six seconds, float [n, dims]."""
    count = min(MAX_CLIPS, int(sound.seconds / CLIP_SECONDS))
    clips = [sound.cut(CLIP_SECONDS * number, CLIP_SECONDS) for number in range(count)]
    return embeddings.embed(clips, embeddings.load("timbre"))


def main() -> None:
    """Print the accuracy on held-out pieces with chance, and the families that real recordings are taken for."""
    features, families, seeds = [], [], []
    for tradition in ("hindustani", "makam"):
        for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
            played = perform(seed, tradition, 2 * CLIP_SECONDS)
            assert played.truth is not None
            rows = vectors(Audio(np.atleast_2d(played.samples), played.rate_hz).resample(16_000))
            features += [*rows]
            families += [played.truth.voices[0].family] * len(rows)
            seeds += [seed] * len(rows)
    x, y, trained = np.array(features), np.array(families), np.array(seeds) < FIRST_SEED + TRAINED
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(x[trained], y[trained])
    right = model.predict(x[~trained]) == y[~trained]
    common = Counter(y[trained]).most_common(1)[0][0]
    names = [str(name) for name in model.classes_]
    print(
        f"performed: {right.mean():.0%} of {right.size} clips right; chance {1 / len(names):.0%}, always {common} ",
        end="",
    )
    print(f"{np.mean(y[~trained] == common):.0%}")
    folder = Path(sys.argv[1])
    for row in csv.DictReader((folder / "metadata.csv").open(encoding="utf-8")):
        shares = model.predict_proba(vectors(read(folder / row["file_name"]).mono().resample(16_000))).mean(axis=0)
        best = int(np.argmax(shares))
        print(f"{row['file_name']} ({row['instruments'] or 'not known'}): {names[best]} {shares[best]:.0%}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m research.validation.timbre_transfer RECORDINGS")
    main()
