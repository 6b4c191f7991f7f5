"""Results to a PACS: C-STORE or STOW-RS, from a queue in the state file, each object once."""
