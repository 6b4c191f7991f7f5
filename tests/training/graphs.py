"""Training without graphs: for few steps, building them takes most of the time."""

import tensorflow as tf

from mammoscan.training import region


def _at_once(function=None, **_):
    """In the place of ``tf.function``: computed at once."""
    if function is None:
        return _at_once
    return lambda *arguments: function(*map(tf.convert_to_tensor, arguments))


def none_in_region(patch):
    """Let conv5, or all layers, be trained and asked without a graph. patch: a pytest.MonkeyPatch."""
    begin = region._Run.__init__

    def eager(self, *arguments, **options):
        with patch.context() as inner:
            inner.setattr(tf, "function", _at_once)
            begin(self, *arguments, **options)

    patch.setattr(region._Run, "__init__", eager)
