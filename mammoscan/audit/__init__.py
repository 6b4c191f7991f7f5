"""Mammography audit: results against ground truth."""
