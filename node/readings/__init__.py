"""Readings: what clinicians say about images, sealed, stored and recorded.

See docs/protocol.md, section 16. The modules in the order of a reading: `subject` (the image that
it is about), `words` (what a clinician says), `fhir_report` and `dicom_report` (its two forms, made
and checked), `whole_file` (whether one is cut short), `identity` (what may not stand in it),
`documents` (either form), `sealing` (salt, envelope, IPFS), `drafts` (what was sealed and is not
recorded yet), `desk` (the ledger) and `lines` (readings with their corrections).
"""
