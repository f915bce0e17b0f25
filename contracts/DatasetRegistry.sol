// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {Roles} from "./Roles.sol";

/// @title Which data
/// @notice Versions are named by their content, so none is ever registered twice or overwritten.
contract DatasetRegistry is IDatasetRegistry {
    /// @dev One slot: all that recording an update asks of a version.
    struct Standing {
        address hospital;
        uint48 purposes;
        uint32 images;
        State state;
        bool deidentified;
    }

    struct Content {
        bytes32 merkleRoot;
        bytes32 attestation;
        bytes32 dataset;
        bytes32 previous;
        bytes16 modality;
        uint16 profile;
    }

    uint256 private constant _MAX_NAME_LENGTH = 64;
    uint16 private constant _BASIC_PROFILE = 1;

    IParticipantRegistry private immutable _participants;
    uint256 private immutable _deployedAt = block.number;
    mapping(bytes32 version => Standing standing) private _standings;
    mapping(bytes32 version => Content content) private _contents;
    mapping(bytes32 dataset => bytes32 version) private _heads;

    /// @notice Ties the registry to the federation.
    /// @param registry Who may act.
    constructor(IParticipantRegistry registry) {
        _participants = registry;
    }

    /// @inheritdoc IDatasetRegistry
    function registerVersion(Terms calldata terms) external returns (bytes32 version) {
        _participants.requireActive(msg.sender, Roles.HOSPITAL);
        _checkTerms(terms);
        bytes32 dataset = keccak256(
            abi.encode(block.chainid, address(this), msg.sender, terms.name)
        );
        version = keccak256(
            abi.encode(
                block.chainid,
                address(this),
                msg.sender,
                terms.name,
                terms.merkleRoot,
                terms.previous
            )
        );
        if (_standings[version].state != State.Unknown)
            revert DatasetRegistryAlreadyRegistered(version);
        bytes32 head = _heads[dataset];
        if (terms.previous != head) revert DatasetRegistryNotHead(dataset, head, terms.previous);

        _store(version, dataset, terms);
        emit VersionRegistered(version, dataset, msg.sender, terms);
        _supersede(head, version);
    }

    /// @inheritdoc IDatasetRegistry
    /// @dev A suspended hospital may still take its patients' data out.
    function withdraw(bytes32 version, string calldata reason) external {
        Standing storage standing = _standings[version];
        _checkOwner(version, standing, msg.sender);
        if (standing.state == State.Withdrawn) revert DatasetRegistryWithdrawn(version);
        standing.state = State.Withdrawn;
        emit VersionWithdrawn(version, reason);
    }

    /// @inheritdoc IDatasetRegistry
    function permitPurposes(bytes32 version, uint48 purposes) external {
        _participants.requireActive(msg.sender, Roles.HOSPITAL);
        Standing storage standing = _standings[version];
        _checkOwner(version, standing, msg.sender);
        _checkState(version, standing);
        standing.purposes = purposes;
        emit PurposesChanged(version, purposes);
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

    /// @inheritdoc IDatasetRegistry
    function versionOf(bytes32 version) external view returns (Version memory) {
        Standing storage standing = _standings[version];
        Content storage content = _contents[version];
        return
            Version({
                hospital: standing.hospital,
                state: standing.state,
                purposes: standing.purposes,
                images: standing.images,
                profile: content.profile,
                modality: content.modality,
                merkleRoot: content.merkleRoot,
                attestation: content.attestation,
                dataset: content.dataset,
                previous: content.previous
            });
    }

    /// @inheritdoc IDatasetRegistry
    function headOf(bytes32 dataset) external view returns (bytes32) {
        return _heads[dataset];
    }

    /// @inheritdoc IDatasetRegistry
    function participants() external view returns (IParticipantRegistry) {
        return _participants;
    }

    /// @inheritdoc IDatasetRegistry
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    function _store(bytes32 version, bytes32 dataset, Terms calldata terms) private {
        _heads[dataset] = version;
        _standings[version] = Standing({
            hospital: msg.sender,
            purposes: terms.purposes,
            images: terms.images,
            state: State.Active,
            deidentified: _hasBasicProfile(terms)
        });
        _contents[version] = Content({
            merkleRoot: terms.merkleRoot,
            attestation: terms.attestation,
            dataset: dataset,
            previous: terms.previous,
            modality: terms.modality,
            profile: terms.profile
        });
    }

    /// @dev A withdrawn version stays withdrawn; a data set's first version replaces none.
    function _supersede(bytes32 version, bytes32 successor) private {
        Standing storage standing = _standings[version];
        if (standing.state != State.Active) return;
        standing.state = State.Superseded;
        emit VersionSuperseded(version, successor);
    }

    function _usableImages(
        address hospital,
        bytes32 version,
        uint8 purpose
    ) private view returns (uint32) {
        Standing memory standing = _standings[version];
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

    function _checkTerms(Terms calldata terms) private pure {
        uint256 length = bytes(terms.name).length;
        if (length == 0 || length > _MAX_NAME_LENGTH) revert DatasetRegistryInvalidTerms("name");
        if (terms.merkleRoot == 0) revert DatasetRegistryInvalidTerms("merkleRoot");
        if (terms.images == 0) revert DatasetRegistryInvalidTerms("images");
        if (terms.modality == 0) revert DatasetRegistryInvalidTerms("modality");
        if (_hasBasicProfile(terms) && terms.attestation == 0)
            revert DatasetRegistryInvalidTerms("attestation");
    }

    function _hasBasicProfile(Terms calldata terms) private pure returns (bool) {
        return terms.profile & _BASIC_PROFILE != 0;
    }
}
