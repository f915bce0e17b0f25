"""Those who check: verify what the ledger says, replay it, and witness it."""
