"""Readings: what clinicians say about images, sealed, stored and recorded.

See docs/protocol.md, section 16. The modules in the order of a reading: `subject` (the image that
it is about), `fhir_report` and `dicom_report` (its two forms, made and checked), `identity` (what
may not stand in it), `documents` (either form), `sealing` (salt, envelope, IPFS), `drafts` (what
was sealed and is not recorded yet) and `desk` (the ledger).
"""
