// The contracts' events, from chain/abi: written by api/explorer/build.mjs.
export const EVENTS = {
  "ParticipantRegistry": [
    {
      "name": "EncryptionKeyChanged",
      "inputs": [
        {
          "name": "account",
          "type": "address",
          "indexed": true
        },
        {
          "name": "encryptionKey",
          "type": "bytes32"
        }
      ]
    },
    {
      "name": "ParticipantEnrolled",
      "inputs": [
        {
          "name": "account",
          "type": "address",
          "indexed": true
        },
        {
          "name": "role",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "encryptionKey",
          "type": "bytes32"
        },
        {
          "name": "name",
          "type": "string"
        }
      ]
    },
    {
      "name": "ParticipantReinstated",
      "inputs": [
        {
          "name": "account",
          "type": "address",
          "indexed": true
        }
      ]
    },
    {
      "name": "ParticipantSuspended",
      "inputs": [
        {
          "name": "account",
          "type": "address",
          "indexed": true
        },
        {
          "name": "reason",
          "type": "string"
        }
      ]
    },
    {
      "name": "RoleAdminChanged",
      "inputs": [
        {
          "name": "role",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "previousAdminRole",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "newAdminRole",
          "type": "bytes32",
          "indexed": true
        }
      ]
    },
    {
      "name": "RoleGranted",
      "inputs": [
        {
          "name": "role",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "account",
          "type": "address",
          "indexed": true
        },
        {
          "name": "sender",
          "type": "address",
          "indexed": true
        }
      ]
    },
    {
      "name": "RoleRevoked",
      "inputs": [
        {
          "name": "role",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "account",
          "type": "address",
          "indexed": true
        },
        {
          "name": "sender",
          "type": "address",
          "indexed": true
        }
      ]
    }
  ],
  "DatasetRegistry": [
    {
      "name": "ImageErased",
      "inputs": [
        {
          "name": "version",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "image",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "hospital",
          "type": "address",
          "indexed": true
        }
      ]
    },
    {
      "name": "PurposesChanged",
      "inputs": [
        {
          "name": "version",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "purposes",
          "type": "uint48"
        }
      ]
    },
    {
      "name": "VersionRegistered",
      "inputs": [
        {
          "name": "version",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "dataset",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "hospital",
          "type": "address",
          "indexed": true
        },
        {
          "name": "terms",
          "type": "tuple",
          "components": [
            {
              "name": "name",
              "type": "string"
            },
            {
              "name": "merkleRoot",
              "type": "bytes32"
            },
            {
              "name": "images",
              "type": "uint32"
            },
            {
              "name": "modality",
              "type": "bytes16"
            },
            {
              "name": "purposes",
              "type": "uint48"
            },
            {
              "name": "profile",
              "type": "uint16"
            },
            {
              "name": "attestation",
              "type": "bytes32"
            },
            {
              "name": "previous",
              "type": "bytes32"
            }
          ]
        }
      ]
    },
    {
      "name": "VersionSuperseded",
      "inputs": [
        {
          "name": "version",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "successor",
          "type": "bytes32",
          "indexed": true
        }
      ]
    },
    {
      "name": "VersionWithdrawn",
      "inputs": [
        {
          "name": "version",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "reason",
          "type": "string"
        }
      ]
    }
  ],
  "RoundLedger": [
    {
      "name": "EIP712DomainChanged",
      "inputs": []
    },
    {
      "name": "HeadCosigned",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "witness",
          "type": "address",
          "indexed": true
        },
        {
          "name": "number",
          "type": "uint64"
        },
        {
          "name": "hash",
          "type": "bytes32"
        },
        {
          "name": "blocks",
          "type": "uint64"
        },
        {
          "name": "history",
          "type": "bytes32"
        },
        {
          "name": "signature",
          "type": "bytes"
        }
      ]
    },
    {
      "name": "ModelProposed",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "proposal",
          "type": "uint32",
          "indexed": true
        },
        {
          "name": "model",
          "type": "bytes32"
        },
        {
          "name": "modelBlob",
          "type": "bytes32"
        },
        {
          "name": "verdicts",
          "type": "bytes32"
        }
      ]
    },
    {
      "name": "ProposalAttested",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "proposal",
          "type": "uint32",
          "indexed": true
        },
        {
          "name": "witness",
          "type": "address",
          "indexed": true
        },
        {
          "name": "signature",
          "type": "bytes"
        }
      ]
    },
    {
      "name": "ProposalDisputed",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "proposal",
          "type": "uint32",
          "indexed": true
        },
        {
          "name": "witness",
          "type": "address",
          "indexed": true
        },
        {
          "name": "model",
          "type": "bytes32"
        },
        {
          "name": "verdicts",
          "type": "bytes32"
        },
        {
          "name": "evidence",
          "type": "bytes32"
        }
      ]
    },
    {
      "name": "RoundAborted",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "task",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "by",
          "type": "address"
        },
        {
          "name": "reason",
          "type": "string"
        }
      ]
    },
    {
      "name": "RoundFinalized",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "task",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "model",
          "type": "bytes32"
        },
        {
          "name": "modelBlob",
          "type": "bytes32"
        }
      ]
    },
    {
      "name": "RoundOpened",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "task",
          "type": "bytes32",
          "indexed": true
        },
        {
          "name": "aggregator",
          "type": "address",
          "indexed": true
        },
        {
          "name": "terms",
          "type": "tuple",
          "components": [
            {
              "name": "task",
              "type": "string"
            },
            {
              "name": "purpose",
              "type": "uint8"
            },
            {
              "name": "baseModel",
              "type": "bytes32"
            },
            {
              "name": "baseBlob",
              "type": "bytes32"
            },
            {
              "name": "schema",
              "type": "bytes32"
            },
            {
              "name": "rule",
              "type": "string"
            },
            {
              "name": "minUpdates",
              "type": "uint32"
            },
            {
              "name": "maxUpdates",
              "type": "uint32"
            },
            {
              "name": "quorum",
              "type": "uint8"
            },
            {
              "name": "deadline",
              "type": "uint64"
            },
            {
              "name": "witnesses",
              "type": "address[]"
            }
          ]
        }
      ]
    },
    {
      "name": "UpdateRecorded",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "hospital",
          "type": "address",
          "indexed": true
        },
        {
          "name": "recordDigest",
          "type": "bytes32"
        },
        {
          "name": "datasets",
          "type": "bytes32[]"
        },
        {
          "name": "examples",
          "type": "uint32"
        },
        {
          "name": "update",
          "type": "bytes32"
        },
        {
          "name": "blob",
          "type": "bytes32"
        },
        {
          "name": "code",
          "type": "bytes32"
        },
        {
          "name": "epsilon",
          "type": "uint64"
        },
        {
          "name": "delta",
          "type": "uint64"
        }
      ]
    },
    {
      "name": "VerdictRecorded",
      "inputs": [
        {
          "name": "round",
          "type": "uint256",
          "indexed": true
        },
        {
          "name": "proposal",
          "type": "uint32",
          "indexed": true
        },
        {
          "name": "hospital",
          "type": "address",
          "indexed": true
        },
        {
          "name": "outcome",
          "type": "uint8"
        },
        {
          "name": "reason",
          "type": "uint8"
        },
        {
          "name": "score",
          "type": "uint64"
        },
        {
          "name": "threshold",
          "type": "uint64"
        },
        {
          "name": "content",
          "type": "bytes32"
        }
      ]
    }
  ]
};
