"""A hospital's image gateway: DICOMweb for whoever may look, and a log of every look.

See docs/protocol.md, section 15. The modules in the order of a request: `sessions` (who asks),
`permits` (what the chain lets them see), `catalogue` (what there is), `search` and `retrieval`
(QIDO-RS and WADO-RS), `app` (the routes, and the log entry before the bytes).
"""
