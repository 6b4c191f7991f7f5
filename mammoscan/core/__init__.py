"""The ground floor: types that travel, errors with codes, coded terms, configuration, whole files, tables, console."""
