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


def test_the_statement_names_the_codes_of_the_measurement_reports():
    from mammoscan.report import sr_cad, sr_tid1500
    from mammoscan.report.sr_common import ZERO_TO_ONE

    table = _statement().split("<!-- begin codes -->")[1].split("<!-- end codes -->")[0]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")][1:] for line in table.strip().splitlines()[2:]]
    coded = (sr_tid1500.SCORE, sr_tid1500.MASS, sr_tid1500.CLUSTER, sr_tid1500.AREA)
    assert rows == [[c.value, c.scheme_designator, c.meaning] for c in coded]
    assert f"`{ZERO_TO_ONE.value}`" in table
    for code in (sr_tid1500.TITLE, sr_tid1500.OUTCOME_TITLE, sr_cad.DENSITY_LESION):
        assert f"{code.value} ({code.scheme_designator}, {code.meaning}" in _statement()
