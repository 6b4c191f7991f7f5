"""What is read of an archive: files, headers, identities, and the rules that decide."""
