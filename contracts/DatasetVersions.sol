// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IParticipantRegistry} from "./interfaces/IParticipantRegistry.sol";
import {Roles} from "./Roles.sol";

/// @title The versions of data sets
/// @notice Versions are named by their content, so none is ever registered twice or overwritten.
abstract contract DatasetVersions is IDatasetRegistry {
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
    function participants() public view returns (IParticipantRegistry) {
        return _participants;
    }

    /// @inheritdoc IDatasetRegistry
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    function _standingOf(bytes32 version) internal view returns (Standing storage) {
        return _standings[version];
    }

    function _rootOf(bytes32 version) internal view returns (bytes32) {
        return _contents[version].merkleRoot;
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
