"""What the model card says whatever a training gave, and that the shipped one says the same."""

import pytest

from mammoscan.training import card
from mammoscan.training.evaluate import Figure
from tests import docs

SMALL = Figure("small CNN, split by image", 0.9, 0.8, 0.95, 100, 50, 40)


@pytest.mark.parametrize("figures", [[], [SMALL]], ids=["small network not run", "small network run"])
def test_the_card_warns_of_the_augmented_set_beside_the_two_protocols(figures):
    said = card._warning(figures)
    assert said.endswith(card.AUGMENTED_SET)
    assert (SMALL.name in said) is bool(figures)


def test_the_shipped_card_and_the_manual_warn_in_the_same_words_and_figures():
    shipped = (docs.ROOT / "models" / "README.md").read_text(encoding="utf-8")
    _, _, section = shipped.partition("## A warning: the split by image")
    assert card.AUGMENTED_SET in section.partition("\n## ")[0]
    manual = " ".join((docs.MANUAL / "training.md").read_text(encoding="utf-8").split())
    for figure in ("98.4 %", "2,188 views", "10.17632/ywsbh3ndr8"):
        assert figure in card.AUGMENTED_SET
        assert figure in manual
