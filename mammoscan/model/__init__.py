"""The network: load, verify, classify, explain, train."""
