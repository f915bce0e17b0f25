// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {DatasetVersions} from "./DatasetVersions.sol";
import {ImageTree} from "./ImageTree.sol";
import {Roles} from "./Roles.sol";

/// @title Which data
/// @notice DatasetVersions takes the versions; here their hospitals withdraw them, erase single
/// images, change what they permit, and rounds ask what may be used.
contract DatasetRegistry is DatasetVersions {
    mapping(bytes32 version => mapping(bytes32 image => bool erased)) private _erasures;
    /// @dev By hospital: whoever copies another's commitment into a version of its own erases
    /// nothing of the other's.
    mapping(address hospital => mapping(bytes32 image => bool erased)) private _erased;

    /// @notice Ties the registry to the federation.
    /// @param registry Who may act.
    constructor(IParticipantRegistry registry) DatasetVersions(registry) {}

    /// @inheritdoc IDatasetRegistry
    /// @dev A suspended hospital may still take its patients' data out.
    function withdraw(bytes32 version, string calldata reason) external {
        Standing storage standing = _standingOf(version);
        _checkOwner(version, standing, msg.sender);
        if (standing.state == State.Withdrawn) revert DatasetRegistryWithdrawn(version);
        standing.state = State.Withdrawn;
        emit VersionWithdrawn(version, reason);
    }

    /// @inheritdoc IDatasetRegistry
    /// @dev A suspended hospital may still erase its patients' images.
    function erase(bytes32 version, bytes32 image, bytes32[] calldata proof) external {
        Standing storage standing = _standingOf(version);
        _checkOwner(version, standing, msg.sender);
        if (!ImageTree.holds(_rootOf(version), image, proof))
            revert DatasetRegistryNotInVersion(version, image);
        if (_erasures[version][image]) revert DatasetRegistryAlreadyErased(version, image);

        _erasures[version][image] = true;
        _erased[msg.sender][image] = true;
        bool wasActive = standing.state == State.Active;
        if (wasActive) standing.state = State.Withdrawn;
        emit ImageErased(version, image, msg.sender);
        if (wasActive) emit VersionWithdrawn(version, "image erased");
    }

    /// @inheritdoc IDatasetRegistry
    function permitPurposes(bytes32 version, uint48 purposes) external {
        participants().requireActive(msg.sender, Roles.HOSPITAL);
        Standing storage standing = _standingOf(version);
        _checkOwner(version, standing, msg.sender);
        _checkState(version, standing);
        standing.purposes = purposes;
        emit PurposesChanged(version, purposes);
    }

    /// @inheritdoc IDatasetRegistry
    function isErased(address hospital, bytes32 image) external view returns (bool) {
        return _erased[hospital][image];
    }

    /// @inheritdoc IDatasetRegistry
    function usableImages(
        address hospital,
        bytes32[] calldata versions,
        uint8 purpose
    ) external view returns (uint256 images) {
        if (versions.length == 0) revert DatasetRegistryNoVersions();
        bytes32 last = bytes32(0);
        for (uint256 i = 0; i < versions.length; ++i) {
            bytes32 version = versions[i];
            images += _usableImages(hospital, version, purpose);
            if (version <= last) revert DatasetRegistryVersionsNotAscending(last, version);
            last = version;
        }
    }

    function _usableImages(
        address hospital,
        bytes32 version,
        uint8 purpose
    ) private view returns (uint32) {
        Standing memory standing = _standingOf(version);
        _checkOwner(version, standing, hospital);
        _checkState(version, standing);
        if (!standing.deidentified) revert DatasetRegistryNotDeidentified(version);
        if ((standing.purposes >> purpose) & 1 == 0)
            revert DatasetRegistryPurposeNotPermitted(version, purpose);
        return standing.images;
    }

    function _checkOwner(
        bytes32 version,
        Standing memory standing,
        address account
    ) private pure {
        if (standing.state == State.Unknown) revert DatasetRegistryUnknownVersion(version);
        if (standing.hospital != account)
            revert DatasetRegistryNotOwner(version, standing.hospital, account);
    }

    function _checkState(bytes32 version, Standing memory standing) private pure {
        if (standing.state == State.Withdrawn) revert DatasetRegistryWithdrawn(version);
        if (standing.state == State.Superseded) revert DatasetRegistrySuperseded(version);
    }
}
