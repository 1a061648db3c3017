"""Broken and hostile input for every reader; `docs/security-testing.md` says how to run it."""
