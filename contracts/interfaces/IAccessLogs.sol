// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IParticipantRegistry} from "./IParticipantRegistry.sol";

/// @title Who looked
/// @notice Hospitals anchor the logs of their image gateways in batches: a Merkle root over so many
/// entries, which are numbered without a gap. See docs/protocol.md, section 15.
interface IAccessLogs {
    event LogAnchored(
        address indexed hospital,
        uint256 indexed batch,
        bytes32 root,
        uint64 first,
        uint32 entries
    );

    error AccessLogsEmptyBatch();
    error AccessLogsOutOfOrder(uint64 expected, uint64 found);
    error AccessLogsUnknownBatch(address hospital, uint256 batch);

    /// @notice Anchors the sender's next entries.
    /// @param root The Merkle root over their leaves, in the order of their numbers.
    /// @param first The number of the first one, which is how many were anchored before; so a
    /// batch that is sent twice is anchored once.
    /// @param entries How many there are.
    /// @return batch The batch's number, from 1 for each hospital.
    function anchor(bytes32 root, uint64 first, uint32 entries) external returns (uint256 batch);

    /// @notice How much a hospital has anchored.
    /// @param hospital The hospital.
    /// @return batches How many batches.
    /// @return entries How many entries, which is the number of the next one.
    function anchored(address hospital) external view returns (uint64 batches, uint64 entries);

    /// @notice Whether a leaf is in an anchored batch; reverts where there is no such batch.
    /// @param hospital The hospital.
    /// @param batch The batch.
    /// @param leaf The entry's leaf.
    /// @param proof Its Merkle proof.
    /// @return True where it is.
    function isAnchored(
        address hospital,
        uint256 batch,
        bytes32 leaf,
        bytes32[] calldata proof
    ) external view returns (bool);

    /// @notice Who may act.
    /// @return The registry.
    function participants() external view returns (IParticipantRegistry);

    /// @notice The block that this contract was deployed in, where readers of its log begin.
    /// @return The block's number.
    function deployedAt() external view returns (uint256);
}
