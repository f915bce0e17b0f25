// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IImageAccess} from "./interfaces/IImageAccess.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {Roles} from "./Roles.sol";

/// @title Who may look
/// @notice Whether a grant is live is asked anew each time, so a suspension or a withdrawal ends
/// it without another transaction.
contract ImageAccess is IImageAccess {
    bytes32 private constant _IMAGE_TAG = keccak256("fedwitness.image.v1");

    IParticipantRegistry private immutable _participants;
    IDatasetRegistry private immutable _datasets;
    uint256 private immutable _deployedAt = block.number;
    mapping(uint256 grantId => Grant granted) private _grants;
    mapping(address researcher => uint256[] grantIds) private _grantsOf;
    uint256 private _grantCount;

    /// @notice Ties the contract to the federation.
    /// @param participantRegistry Who may act.
    /// @param datasetRegistry Which data.
    constructor(IParticipantRegistry participantRegistry, IDatasetRegistry datasetRegistry) {
        _participants = participantRegistry;
        _datasets = datasetRegistry;
    }

    /// @inheritdoc IImageAccess
    function grant(
        address researcher,
        bytes32 version,
        bytes32 image,
        bytes32[] calldata proof,
        uint8 purpose,
        uint64 expiry
    ) external returns (uint256 grantId) {
        _participants.requireActive(msg.sender, Roles.HOSPITAL);
        _participants.requireActive(researcher, Roles.RESEARCHER);
        // Reverts where the version is of no use; how many images it has is no matter here.
        // slither-disable-next-line unused-return
        _datasets.usableImages(msg.sender, _only(version), purpose);
        // A validator can move the time by seconds; grants last for days.
        // slither-disable-next-line timestamp
        if (expiry <= block.timestamp) revert ImageAccessExpiryInPast(expiry, block.timestamp);
        if (!_isInVersion(version, image, proof)) revert ImageAccessNotInVersion(version, image);

        grantId = ++_grantCount;
        _grants[grantId] = Grant({
            version: version,
            image: image,
            hospital: msg.sender,
            researcher: researcher,
            purpose: purpose,
            expiry: expiry,
            revoked: false
        });
        _grantsOf[researcher].push(grantId);
        emit AccessGranted(grantId, researcher, version, msg.sender, image, purpose, expiry);
    }

    /// @inheritdoc IImageAccess
    /// @dev A suspended hospital may still take sight of its patients' images back.
    function revoke(uint256 grantId) external {
        Grant storage granted = _known(grantId);
        if (granted.hospital != msg.sender)
            revert ImageAccessNotOwner(granted.version, granted.hospital, msg.sender);
        if (granted.revoked) revert ImageAccessAlreadyRevoked(grantId);
        granted.revoked = true;
        emit AccessRevoked(grantId);
    }

    /// @inheritdoc IImageAccess
    function isLive(uint256 grantId) external view returns (bool) {
        Grant memory granted = _grants[grantId];
        // A validator can move the time by seconds; grants last for days.
        // slither-disable-next-line timestamp
        return
            !granted.revoked &&
            granted.expiry >= block.timestamp &&
            _participants.isActive(granted.researcher, Roles.RESEARCHER) &&
            _participants.isActive(granted.hospital, Roles.HOSPITAL) &&
            _isUsable(granted);
    }

    /// @inheritdoc IImageAccess
    function grantOf(uint256 grantId) external view returns (Grant memory) {
        return _known(grantId);
    }

    /// @inheritdoc IImageAccess
    function grantsOf(
        address researcher,
        uint256 offset,
        uint256 limit
    ) external view returns (uint256[] memory grantIds) {
        uint256[] storage all = _grantsOf[researcher];
        uint256 left = all.length > offset ? all.length - offset : 0;
        grantIds = new uint256[](left < limit ? left : limit);
        for (uint256 i = 0; i < grantIds.length; ++i) grantIds[i] = all[offset + i];
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
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    function _isUsable(Grant memory granted) private view returns (bool) {
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
        // Hashed twice: the tree would take 64 bytes hashed once for one of its inner nodes.
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(_IMAGE_TAG, image))));
        return MerkleProof.verifyCalldata(proof, _datasets.versionOf(version).merkleRoot, leaf);
    }

    function _known(uint256 grantId) private view returns (Grant storage granted) {
        granted = _grants[grantId];
        if (granted.hospital == address(0)) revert ImageAccessUnknownGrant(grantId);
    }

    function _only(bytes32 version) private pure returns (bytes32[] memory versions) {
        versions = new bytes32[](1);
        versions[0] = version;
    }
}
