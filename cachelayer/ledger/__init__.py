"""The ledger: what every request came to, what it cost, what was saved. Reports are queries on it."""
