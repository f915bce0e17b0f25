"""The explorer: pages on which an auditor reads what the ledger says, and checks it.

HTML is made on the server from the same questions to the index that the REST routes put. Scripts
only add conveniences, the sign-in with a wallet, and the verification in the browser.
"""
