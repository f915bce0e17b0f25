// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IRoundLedger} from "./interfaces/IRoundLedger.sol";

/// @title What is signed and committed to
/// @notice The EIP-712 struct hashes of docs/protocol.md, sections 7.1, 10 and 13, and the verdict
/// leaves of section 8.
library RoundHashes {
    bytes32 private constant _UPDATE_RECORD =
        keccak256(
            // solhint-disable-next-line max-line-length
            "UpdateRecord(uint64 chainId,address ledger,uint256 round,address hospital,bytes32[] datasets,uint8 purpose,uint32 examples,bytes32 baseModel,bytes32 update,bytes32 blob,bytes32 code,uint64 epsilon,uint64 delta)"
        );
    bytes32 private constant _ATTESTATION =
        keccak256(
            // solhint-disable-next-line max-line-length
            "Attestation(uint256 round,uint32 proposal,bytes32 model,bytes32 modelBlob,bytes32 verdicts)"
        );
    bytes32 private constant _LEDGER_HEAD =
        keccak256(
            // solhint-disable-next-line max-line-length
            "LedgerHead(uint256 round,uint64 number,bytes32 hash,uint64 blocks,bytes32 history)"
        );
    bytes32 private constant _VERDICT_TAG = keccak256("fedwitness.verdict.v1");

    /// @notice The struct hash of a hospital's record.
    /// @param record The record.
    /// @return Its hash.
    function updateRecord(
        IRoundLedger.UpdateRecord calldata record
    ) internal pure returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    _UPDATE_RECORD,
                    record.chainId,
                    record.ledger,
                    record.round,
                    record.hospital,
                    keccak256(abi.encodePacked(record.datasets)),
                    record.purpose,
                    record.examples,
                    record.baseModel,
                    record.update,
                    record.blob,
                    record.code,
                    record.epsilon,
                    record.delta
                )
            );
    }

    /// @notice The struct hash that a witness signs.
    /// @param round The round.
    /// @param proposal The proposal's number.
    /// @param model SHA-256 of the model's canonical bytes.
    /// @param modelBlob SHA-256 of the model's IPFS root block.
    /// @param verdicts The verdicts' Merkle root.
    /// @return Its hash.
    function attestation(
        uint256 round,
        uint32 proposal,
        bytes32 model,
        bytes32 modelBlob,
        bytes32 verdicts
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(_ATTESTATION, round, proposal, model, modelBlob, verdicts));
    }

    /// @notice The struct hash that a witness signs of a final round's head.
    /// @param head The head.
    /// @return Its hash.
    function ledgerHead(IRoundLedger.LedgerHead calldata head) internal pure returns (bytes32) {
        return
            keccak256(
                abi.encode(
                    _LEDGER_HEAD,
                    head.round,
                    head.number,
                    head.hash,
                    head.blocks,
                    head.history
                )
            );
    }

    /// @notice The leaf of a verdict; hashed twice, since the tree would take 64 bytes hashed once
    /// for one of its inner nodes.
    /// @param round The round.
    /// @param verdict The verdict.
    /// @return The leaf.
    function verdictLeaf(
        uint256 round,
        IRoundLedger.Verdict calldata verdict
    ) internal pure returns (bytes32) {
        bytes memory content = abi.encode(
            _VERDICT_TAG,
            round,
            verdict.hospital,
            verdict.outcome,
            verdict.reason,
            verdict.score,
            verdict.threshold,
            verdict.content
        );
        return keccak256(bytes.concat(keccak256(content)));
    }
}
