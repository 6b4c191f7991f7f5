"""What tests change in every process that is started with this folder in PYTHONPATH, as its environment says."""

import os
import time
from pathlib import Path

_STUB = os.environ.get("HOOK_STUB")  # no TensorFlow: a stub of the network
_KILLER = os.environ.get("HOOK_KILLER")  # SOPInstanceUID of an image that kills who decodes it
_SLOW = os.environ.get("HOOK_SLOW")  # and of one that is decoded slowly, the first time:
_MARK = os.environ.get("HOOK_MARK", "")  # until then this file is not there; then it holds the process that did
_VERSION = os.environ.get("HOOK_VERSION")  # what this mammoscan says it is

if _VERSION:
    import mammoscan

    mammoscan.__version__ = _VERSION

if _STUB:
    from mammoscan.run import score
    from tests.devices import TimedDevice

    score.Classifier = lambda *_, **__: TimedDevice(16)

if _KILLER or _SLOW:
    from mammoscan.image import pixels

    _read = pixels.read_image

    def _hooked(header, **options):
        if header.sop_instance_uid == _KILLER:
            os._exit(77)
        if header.sop_instance_uid == _SLOW and not Path(_MARK).exists():
            begun = Path(_MARK + ".new")
            begun.write_text(str(os.getpid()))
            begun.rename(_MARK)
            time.sleep(60)
        return _read(header, **options)

    pixels.read_image = _hooked
