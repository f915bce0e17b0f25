"""The shared ground: wire types, digests and signatures; ledger, blobs and the local network."""
