"""Arrays in, small types out: pixels, preprocessing, regions, features, crops, display."""
