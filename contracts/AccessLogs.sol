// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IAccessLogs} from "./interfaces/IAccessLogs.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {Roles} from "./Roles.sol";

/// @title Who looked
/// @notice Entries are numbered without a gap, so a hospital that hides one for which it gave a
/// receipt cannot leave its number out: the receipt shows that another entry stands there, or
/// none.
contract AccessLogs is IAccessLogs {
    struct Length {
        uint64 batches;
        uint64 entries;
    }

    IParticipantRegistry private immutable _participants;
    uint256 private immutable _deployedAt = block.number;
    mapping(address hospital => Length length) private _lengths;
    mapping(address hospital => mapping(uint256 batch => bytes32 root)) private _roots;

    /// @notice Ties the contract to the federation.
    /// @param participantRegistry Who may act.
    constructor(IParticipantRegistry participantRegistry) {
        _participants = participantRegistry;
    }

    /// @inheritdoc IAccessLogs
    function anchor(bytes32 root, uint64 first, uint32 entries) external returns (uint256 batch) {
        _participants.requireActive(msg.sender, Roles.HOSPITAL);
        if (root == 0 || entries == 0) revert AccessLogsEmptyBatch();
        Length storage length = _lengths[msg.sender];
        if (first != length.entries) revert AccessLogsOutOfOrder(length.entries, first);

        length.entries = first + entries;
        batch = ++length.batches;
        _roots[msg.sender][batch] = root;
        emit LogAnchored(msg.sender, batch, root, first, entries);
    }

    /// @inheritdoc IAccessLogs
    function anchored(address hospital) external view returns (uint64 batches, uint64 entries) {
        Length storage length = _lengths[hospital];
        return (length.batches, length.entries);
    }

    /// @inheritdoc IAccessLogs
    function isAnchored(
        address hospital,
        uint256 batch,
        bytes32 leaf,
        bytes32[] calldata proof
    ) external view returns (bool) {
        bytes32 root = _roots[hospital][batch];
        if (root == 0) revert AccessLogsUnknownBatch(hospital, batch);
        return MerkleProof.verifyCalldata(proof, root, leaf);
    }

    /// @inheritdoc IAccessLogs
    function participants() external view returns (IParticipantRegistry) {
        return _participants;
    }

    /// @inheritdoc IAccessLogs
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }
}
