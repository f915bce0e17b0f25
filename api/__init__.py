"""REST for hospitals, auditors and researchers (docs/protocol.md, sections 2 and 12)."""
