// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clinicians} from "./Clinicians.sol";
import {IDatasetRegistry} from "./interfaces/IDatasetRegistry.sol";
import {IReadings} from "./interfaces/IReadings.sol";
import {ImageTree} from "./ImageTree.sol";

/// @title The readings, and how they follow and agree with each other
/// @notice Readings form lines: each correction follows the newest of its line, and what it
/// corrects stays.
abstract contract ReadingRecords is Clinicians {
    IDatasetRegistry private immutable _datasets;
    uint256 private immutable _deployedAt = block.number;
    mapping(bytes32 reading => Standing standing) private _standings;

    constructor(IDatasetRegistry datasetRegistry) {
        _datasets = datasetRegistry;
    }

    /// @inheritdoc IReadings
    function record(
        Reading calldata reading,
        bytes32[] calldata proof
    ) external returns (bytes32 id) {
        _checkSender(reading.hospital);
        _checkImage(reading.version, reading.image, reading.hospital, proof);
        id = _record(reading, bytes32(0));
    }

    /// @inheritdoc IReadings
    /// @dev Neither a withdrawal nor an erasure keeps a wrong reading from being corrected.
    function correct(
        bytes32 reading,
        bytes32 document,
        bytes32 blob,
        string calldata reason
    ) external returns (bytes32 id) {
        Standing storage corrected = _newest(reading);
        _checkSender(corrected.hospital);
        _checkDigests(document, blob);
        bytes32 opinionOn = corrected.opinionOn;
        if (opinionOn != 0) _checkOtherAuthor(opinionOn);
        id = keccak256(
            abi.encode(block.chainid, address(this), msg.sender, reading, document, blob)
        );

        corrected.correctedBy = id;
        Standing storage correction = _standings[id];
        (correction.image, correction.hospital) = (corrected.image, corrected.hospital);
        (correction.author, correction.corrects) = (msg.sender, reading);
        if (opinionOn != 0) correction.opinionOn = opinionOn;
        emit ReadingCorrected(
            reading,
            id,
            corrected.image,
            corrected.hospital,
            msg.sender,
            document,
            blob,
            reason
        );
    }

    /// @inheritdoc IReadings
    function compare(bytes32 own, bytes32 other, Agreement agreement) external {
        if (agreement == Agreement.Unknown) revert ReadingsNoAgreement();
        Standing storage standing = _newest(own);
        if (standing.author != msg.sender)
            revert ReadingsNotAuthor(own, standing.author, msg.sender);
        _checkSender(standing.hospital);
        _checkSameImage(standing.image, _newest(other).image);
        _checkOtherAuthor(other);

        emit ReadingsCompared(own, other, standing.image, msg.sender, agreement);
    }

    /// @inheritdoc IReadings
    function readingOf(bytes32 id) external view returns (Standing memory) {
        return _standings[id];
    }

    /// @inheritdoc IReadings
    function datasets() external view returns (IDatasetRegistry) {
        return _datasets;
    }

    /// @inheritdoc IReadings
    function deployedAt() external view returns (uint256) {
        return _deployedAt;
    }

    /// @dev Takes a reading whose sender and image were checked.
    function _record(Reading calldata reading, bytes32 request) internal returns (bytes32 id) {
        _checkDigests(reading.document, reading.blob);
        if (reading.opinionOn != 0) {
            _checkReadingOf(reading.image, reading.opinionOn);
            _checkOtherAuthor(reading.opinionOn);
        }
        id = keccak256(abi.encode(block.chainid, address(this), msg.sender, reading));
        Standing storage standing = _standings[id];
        if (standing.author != address(0)) revert ReadingsAlreadyRecorded(id);

        (standing.image, standing.hospital) = (reading.image, reading.hospital);
        standing.author = msg.sender;
        if (reading.opinionOn != 0) standing.opinionOn = reading.opinionOn;
        emit ReadingRecorded(
            id,
            reading.image,
            reading.hospital,
            msg.sender,
            reading.version,
            reading.opinionOn,
            request,
            reading.document,
            reading.blob
        );
    }

    /// @dev Reverts unless the image is in the hospital's version and may be read.
    function _checkImage(
        bytes32 version,
        bytes32 image,
        address hospital,
        bytes32[] calldata proof
    ) internal view {
        bytes32 root = _checkReadable(version, image, hospital);
        if (!ImageTree.holds(root, image, proof)) revert ReadingsNotInVersion(version, image);
    }

    /// @dev Reverts unless the version is the hospital's and not withdrawn, and the image, which is
    /// known to be in it if it is, was not erased.
    function _checkReadable(
        bytes32 version,
        bytes32 image,
        address hospital
    ) internal view returns (bytes32 root) {
        IDatasetRegistry.Version memory found = _datasets.versionOf(version);
        if (found.hospital != hospital)
            revert ReadingsNotOwner(version, found.hospital, hospital);
        if (found.state == IDatasetRegistry.State.Withdrawn) revert ReadingsWithdrawn(version);
        if (_datasets.isErased(hospital, image)) revert ReadingsErased(image);
        return found.merkleRoot;
    }

    /// @dev Reverts unless there is such a reading, of this image.
    function _checkReadingOf(bytes32 image, bytes32 reading) internal view {
        _checkSameImage(image, _existing(reading).image);
    }

    function _checkSameImage(bytes32 expected, bytes32 found) internal pure {
        if (expected != found) revert ReadingsOtherImage(expected, found);
    }

    function _existing(bytes32 reading) private view returns (Standing storage standing) {
        standing = _standings[reading];
        if (standing.author == address(0)) revert ReadingsUnknownReading(reading);
    }

    function _newest(bytes32 reading) private view returns (Standing storage standing) {
        standing = _existing(reading);
        if (standing.correctedBy != 0)
            revert ReadingsAlreadyCorrected(reading, standing.correctedBy);
    }

    function _checkOtherAuthor(bytes32 reading) private view {
        if (_standings[reading].author == msg.sender)
            revert ReadingsSameAuthor(reading, msg.sender);
    }

    function _checkDigests(bytes32 document, bytes32 blob) private pure {
        if (document == 0) revert ReadingsEmptyDigest("document");
        if (blob == 0) revert ReadingsEmptyDigest("blob");
    }
}
