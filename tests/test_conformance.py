"""The conformance statement says what the code does."""

from mammoscan.core.implementation import CLASS_UID
from mammoscan.send import dimse, stow
from mammoscan.send.destination import LONGEST_PAUSE
from mammoscan.send.queue import PATIENCE
from tests import docs


def _statement():
    return (docs.MANUAL / "conformance.md").read_text(encoding="utf-8")


def test_the_statement_names_the_implementation_and_every_status_that_counts_as_sent():
    assert CLASS_UID in _statement()
    for code in (0, *dimse._WARNINGS, 0x0110, 0x0213):
        assert f"{code:04X}H" in _statement()
    for status in (*stow._CONFIGURATION, *stow._REDIRECTS, *stow._NOT_NOW, *stow._BY_OBJECT):
        assert str(status) in _statement()
    assert f"over {LONGEST_PAUSE:.0f} seconds" in _statement()
    assert PATIENCE == 7, "every seventh call, say the statement and the page on sending"
    assert f"{dimse.COMMIT_WAIT:.0f} seconds" in _statement()
    assert f"up to {stow._AT_ONCE} objects" in _statement()


def test_the_statement_and_the_manual_give_the_limits_of_pseudonyms():
    from mammoscan.run import deidentify

    assert f"over {deidentify.OLDEST} years are written as {deidentify.OLDEST:03d}Y" in _statement()
    page = (docs.MANUAL / "pseudonyms.md").read_text(encoding="utf-8")
    assert f"moved earlier by {deidentify.LEAST_DAYS} to {deidentify.MOST_DAYS:,} days" in page
    assert f"{deidentify.OLDEST} years and more read {deidentify.OLDEST}" in page
