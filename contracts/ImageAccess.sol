// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessLogs} from "./interfaces/IAccessLogs.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IImageAccess} from "./interfaces/IImageAccess.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {IReadings} from "./interfaces/IReadings.sol";
import {ImageTree} from "./ImageTree.sol";
import {Roles} from "./Roles.sol";

/// @title Who may look
/// @notice Whether a grant is live is asked anew each time, so a suspension or a withdrawal ends
/// it without another transaction, and nothing of that is asked when it is granted. One slot holds
/// whether it stands; the event holds what it says.
contract ImageAccess is IImageAccess {
    IParticipantRegistry private immutable _participants;
    IDatasetRegistry private immutable _datasets;
    IAccessLogs private immutable _accessLogs;
    IReadings private immutable _readings;
    uint256 private immutable _deployedAt = block.number;
    mapping(bytes32 grantId => State state) private _states;
    mapping(address hospital => mapping(address dataSteward => uint64 until)) private _delegates;

    /// @notice Ties the contract to the federation.
    /// @param participantRegistry Who may act.
    /// @param datasetRegistry Which data.
    /// @param logs Who looked.
    /// @param imageReadings Who said what of an image.
    constructor(
        IParticipantRegistry participantRegistry,
        IDatasetRegistry datasetRegistry,
        IAccessLogs logs,
        IReadings imageReadings
    ) {
        _participants = participantRegistry;
        _datasets = datasetRegistry;
        _accessLogs = logs;
        _readings = imageReadings;
    }

    /// @inheritdoc IImageAccess
    function delegate(address dataSteward, uint64 until) external {
        _participants.requireActive(msg.sender, Roles.HOSPITAL);
        _delegates[msg.sender][dataSteward] = until;
        emit DelegationChanged(msg.sender, dataSteward, until);
    }

    /// @inheritdoc IImageAccess
    function delegatedUntil(
        address hospital,
        address dataSteward
    ) external view returns (uint64) {
        return _delegates[hospital][dataSteward];
    }

    /// @inheritdoc IImageAccess
    function grant(
        Grant calldata terms,
        bytes32[] calldata proof
    ) external returns (bytes32 grantId) {
        _participants.requireActive(terms.hospital, Roles.HOSPITAL);
        _checkSender(terms.hospital);
        // A validator can move the time by seconds; grants last for days.
        // slither-disable-next-line timestamp
        if (terms.expiry <= block.timestamp)
            revert ImageAccessExpiryInPast(terms.expiry, block.timestamp);
        if (!_isInVersion(terms.version, terms.image, proof))
            revert ImageAccessNotInVersion(terms.version, terms.image);
        grantId = idOf(terms);
        if (_states[grantId] != State.Unknown) revert ImageAccessAlreadyGranted(grantId);

        _states[grantId] = State.Granted;
        emit AccessGranted(
            grantId,
            terms.researcher,
            terms.version,
            terms.hospital,
            terms.image,
            terms.purpose,
            terms.expiry,
            msg.sender
        );
    }

    /// @inheritdoc IImageAccess
    /// @dev A suspended hospital may still take sight of its patients' images back.
    function revoke(Grant calldata terms) external {
        _checkSender(terms.hospital);
        bytes32 grantId = idOf(terms);
        State state = _states[grantId];
        if (state == State.Unknown) revert ImageAccessUnknownGrant(grantId);
        if (state == State.Revoked) revert ImageAccessAlreadyRevoked(grantId);

        _states[grantId] = State.Revoked;
        emit AccessRevoked(grantId, msg.sender);
    }

    /// @inheritdoc IImageAccess
    function isLive(Grant calldata terms) external view returns (bool) {
        // A validator can move the time by seconds; grants last for days.
        // slither-disable-next-line timestamp
        return
            _states[idOf(terms)] == State.Granted &&
            terms.expiry >= block.timestamp &&
            _participants.isActive(terms.researcher, Roles.RESEARCHER) &&
            _participants.isActive(terms.hospital, Roles.HOSPITAL) &&
            _isUsable(terms) &&
            !_datasets.isErased(terms.hospital, terms.image);
    }

    /// @inheritdoc IImageAccess
    function stateOf(bytes32 grantId) external view returns (State) {
        return _states[grantId];
    }

    /// @inheritdoc IImageAccess
    function participants() external view returns (IParticipantRegistry) {
        return _participants;
    }

    /// @inheritdoc IImageAccess
    function datasets() external view returns (IDatasetRegistry) {
        return _datasets;
    }

    /// @inheritdoc IImageAccess
    function accessLogs() external view returns (IAccessLogs) {
        return _accessLogs;
    }

    /// @inheritdoc IImageAccess
    function readings() external view returns (IReadings) {
        return _readings;
    }

    /// @inheritdoc IImageAccess
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    /// @inheritdoc IImageAccess
    function idOf(Grant calldata terms) public view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(this), terms));
    }

    function _checkSender(address hospital) private view {
        // A validator can move the time by seconds; delegations last for days.
        // slither-disable-next-line timestamp
        if (msg.sender != hospital && _delegates[hospital][msg.sender] < block.timestamp)
            revert ImageAccessNotDelegate(hospital, msg.sender);
    }

    function _isUsable(Grant calldata granted) private view returns (bool) {
        // Only whether it reverts is asked here, not how many images there are.
        // slither-disable-next-line unused-return
        try
            _datasets.usableImages(granted.hospital, _only(granted.version), granted.purpose)
        returns (uint256) {
            return true;
        } catch {
            return false;
        }
    }

    function _isInVersion(
        bytes32 version,
        bytes32 image,
        bytes32[] calldata proof
    ) private view returns (bool) {
        if (image == 0) return proof.length == 0;
        return ImageTree.holds(_datasets.versionOf(version).merkleRoot, image, proof);
    }

    function _only(bytes32 version) private pure returns (bytes32[] memory versions) {
        versions = new bytes32[](1);
        versions[0] = version;
    }
}
