"""The local network: one Ethereum chain (anvil) and one IPFS node (Helia), kept on disk.

`chain.devnet.network` starts, checks and stops both; `anvil` and `ipfs` each run one of them;
`keeper` guards anvil's state file; `process` knows which processes are ours.
"""
