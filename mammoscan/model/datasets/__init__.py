"""Readers of labelled image sets for training."""
