"""Generated pairs of views in DvXray's layout, scored by a file of numbers."""

from pathlib import Path

import numpy as np

from pipelines import cli
from tests.shards.corpus.layouts.twins import Truth, put
from tests.shards.plain_calls import convert_plainly

NUM_PAIRS = 24
VIEWS = ("OL", "SD")
ITEMS = ("Gun", "Knife")


class TwoViews:
    """A converted corpus of pairs, the labels of each, and scores of each view.

    Both views have a box of each item, but for the first pair with a knife: it is boxed in one view alone.
    """

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.root = root
        random = np.random.default_rng(seed)
        self.has_item = random.random((NUM_PAIRS, len(ITEMS))) < 0.4
        self.half_boxed = int(np.flatnonzero(self.has_item[:, 1])[0])
        self.logits = random.normal(size=(NUM_PAIRS, 2, len(ITEMS))).round(1) + 2 * self.has_item[:, None, :] - 2
        for pair, present in enumerate(self.has_item):
            objects = [
                {"label": name, "ol_bb": [1, 1, 9, 9], "sd_bb": None if (pair, name) == self._only() else [2, 2, 8, 8]}
                for name, has in zip(ITEMS, present, strict=True)
                if has
            ]
            for view in range(2):
                scan = Truth(f"s{2 * (2 * pair + view):03d}", "", (40, 30), ())
                put(root / f"c/DvXray/P{pair:05d}_{VIEWS[view]}.png", scan.image)
            put(root / f"c/DvXray/P{pair:05d}.json", {"objects": objects or "None"})
        put(root / "c/test.txt", "\n".join(f"P{pair:05d}" for pair in range(NUM_PAIRS)))
        convert_plainly(root / "c", root / "ds", shard_bytes=6_000)
        lines = [",".join(["key", *ITEMS])]
        for pair, view in np.ndindex(NUM_PAIRS, 2):
            lines.append(",".join([self.key(pair, view), *map(repr, self.logits[pair, view].tolist())]))
        (root / "scores.csv").write_text("\n".join(lines))
        words = ["--data", str(root / "ds"), "--output", str(root / "p"), "--format", "csv", "--model-name", "views"]
        assert cli.main(["import-predictions", str(root / "scores.csv"), *words, "--scores-are", "logits"]) in (0, 1)

    def _only(self) -> tuple[int, str]:
        return self.half_boxed, "Knife"

    def key(self, pair: int, view: int) -> str:
        return f"DvXray%2FP{pair:05d}_{VIEWS[view]}"

    @property
    def predictions(self) -> str:
        return str(self.root / "p/views")

    @property
    def data(self) -> str:
        return str(self.root / "ds")

    def fused(self, rule: str) -> np.ndarray:
        """Logits of the pairs, by another formula than the code's."""
        if rule == "max":
            return np.asarray(self.logits.max(axis=1))
        if rule == "mean":
            return np.asarray(self.logits.mean(axis=1))
        none = np.prod(1 / (1 + np.exp(self.logits)), axis=1)
        return np.asarray(np.log((1 - none) / none))
