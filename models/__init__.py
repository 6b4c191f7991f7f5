"""Files of the bundled model, read with importlib.resources."""
