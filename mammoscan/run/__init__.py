"""The engine: inventory and plan, work and its executors, scoring, publishing, tables, state."""
