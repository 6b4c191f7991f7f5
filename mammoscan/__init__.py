"""mammoscan: a batch scanner for DICOM mammography archives (research and second reading only)."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mammoscan")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

NOTICE = (
    "For research and second reading only. Not a medical device; asserts no diagnosis. "
    "Every result must be verified by a qualified reader."
)
