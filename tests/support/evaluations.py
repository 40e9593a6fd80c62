"""Made-up results of evaluations, as a detector or classifier of a given skill would leave them."""

from __future__ import annotations

import numpy as np

from workloads.results import Classified, Detected

NAMES = ["bread", "milk", "never seen"]


def classified(images: int = 200, skill: float = 0.8, seed: int = 0) -> Classified:
    """Each image gets three guesses out of six classes; the first is right with probability ``skill``."""
    rng = np.random.default_rng(seed)
    target = np.arange(images) % 6
    guesses = np.argsort(rng.random((images, 6)), axis=1)
    guesses = np.stack([np.concatenate([[t], row[row != t]]) for t, row in zip(target, guesses, strict=True)])
    wrong = rng.random(images) >= skill
    guesses[wrong] = np.roll(guesses[wrong], rng.integers(1, 5), axis=1)
    confidence = np.sort(rng.random((images, 3)), axis=1)[:, ::-1].astype(np.float32)
    return Classified(
        [f"{i:04}.png" for i in range(images)], [f"c{i}" for i in range(6)], target, guesses[:, :3], confidence
    )


def detected(images: int = 40, skill: float = 0.7, seed: int = 0, *, masks: bool = False) -> Detected:
    """Two classes with objects and one without; better predictions are more confident, some images are empty."""
    rng = np.random.default_rng(seed)
    target_image = np.sort(rng.integers(0, images, images * 3))
    image = np.sort(rng.integers(0, images, images * 5))
    quality = rng.random(len(image)) * (rng.random(len(image)) < skill)
    thresholds = np.linspace(0.05, 0.95, 10)
    hits = {"B": quality[:, None] > thresholds}
    if masks:
        hits["M"] = (quality * 0.9)[:, None] > thresholds
    return Detected(
        images=[f"{i:04}.png" for i in range(images)], names=NAMES, hits=hits,
        confidence=np.clip(quality * 0.6 + rng.random(len(image)) * 0.4, 0, 1).astype(np.float32),
        predicted=rng.integers(0, 3, len(image)), image=image, target=rng.integers(0, 2, len(target_image)),
        target_image=target_image,
    )  # fmt: skip
