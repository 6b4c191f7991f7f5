"""A model that takes clinical data, for tests: the bundled one with columns put into its breast's score."""

import json
from importlib import resources
from pathlib import Path

from mammoscan.core.clinical import Column
from mammoscan.model.bundle import DESCRIPTION

BMI = Column("clinical_bmi")
HORMONES = Column("clinical_hormones", ("never", "now"))
# Mean, scale and weight of every input.
WEIGHTS = {
    "clinical_bmi": (25.0, 5.0, 1.0), "clinical_bmi: missing": (0.0, 1.0, -0.25),
    "clinical_hormones: never": (0.5, 0.5, -0.5), "clinical_hormones: now": (0.25, 0.5, 0.5),
    "clinical_hormones: missing": (0.0, 1.0, 0.125),
}  # fmt: skip


def model(folder: Path) -> Path:
    """Write it; the files of the bundled one are linked to."""
    folder.mkdir()
    bundled = Path(str(resources.files("mammoscan.models")))
    for path in bundled.iterdir():
        if path.name != DESCRIPTION:
            (folder / path.name).symlink_to(path)
    facts = json.loads((bundled / DESCRIPTION).read_text())
    facts["clinical_columns"] = [BMI.facts(), HORMONES.facts()]
    score = facts["breast_score"]
    for name, numbers in WEIGHTS.items():
        for key, value in zip(("inputs", "mean", "scale", "weight"), (name, *numbers), strict=True):
            score[key].append(value)
    (folder / DESCRIPTION).write_text(json.dumps(facts))
    return folder
